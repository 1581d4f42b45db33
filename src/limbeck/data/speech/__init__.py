"""Kaldi data directories: features, alignments and context, read for training in bounded memory."""

__all__ = ["FrontEnd", "Spliced", "Splicing", "open_directory", "open_speech", "read_labels"]

from limbeck.data.speech.alignments import read_labels
from limbeck.data.speech.directory import open_directory
from limbeck.data.speech.frontend import FrontEnd, Splicing
from limbeck.data.speech.opening import open_speech
from limbeck.data.speech.spliced import Spliced
