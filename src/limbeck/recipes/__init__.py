"""Named experiments that anyone can run again."""

__all__: list[str] = []
