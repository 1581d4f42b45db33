"""All of Kaldi: its files, its networks, its data directories and decoding."""
