"""Kaldi data directories: features, alignments and context, read for training in bounded memory."""

__all__ = ["FrontEnd", "Spliced", "Splicing", "open_directory", "open_speech", "read_labels"]

from limbeck.kaldi.source.alignments import read_labels
from limbeck.kaldi.source.directory import open_directory
from limbeck.kaldi.source.frontend import FrontEnd, Splicing
from limbeck.kaldi.source.opening import open_speech
from limbeck.kaldi.source.spliced import Spliced
