"""Energy-based models: estimation by noise contrast, sampling, composition."""

__all__: list[str] = []
