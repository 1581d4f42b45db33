"""Named, reproducible experiments."""

__all__: list[str] = []
