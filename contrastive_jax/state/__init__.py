"""What a method carries from step to step: pure init and update functions on pytrees."""

__all__: list[str] = []
