"""Kaldi's nnet3 networks: files, descriptors, what they compute, edits, and a torch module that learns.

``fields``, ``components``, ``descriptors``, ``nodes``, ``network``, ``model`` and ``edits`` need no torch; ``layers``,
``module``, ``computing``, ``teacher`` and ``finetuning`` do.
"""
