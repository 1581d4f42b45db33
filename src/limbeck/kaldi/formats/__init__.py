"""Kaldi's files: bytes to numpy and back, without torch."""
