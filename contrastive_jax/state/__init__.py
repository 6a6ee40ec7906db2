"""What a method carries from step to step: pure init and update on pytrees."""

__all__: list[str] = []
