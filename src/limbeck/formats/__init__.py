"""Readers and writers of files: bytes to numpy and back, without torch. Import from the submodules."""

__all__: list[str] = []
