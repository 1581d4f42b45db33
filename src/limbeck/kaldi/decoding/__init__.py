"""From features to words: a network over utterances, a search through a graph, word errors and frame errors.

Nothing here imports torch: networks run in numpy, so that a command starts at once where torch is not at hand.
"""
