r"""Specialists: experts on classes that a generalist confuses, and the combination of their outputs.

The way: :func:`confusable_groups` says which classes the generalist takes for each other; :func:`specialist_data` and
:func:`specialist_network` give a group's specialist its examples and its initial weights; after training,
:func:`correct_dustbin` takes the bias of these examples out of its answers; :func:`combine` makes one distribution of
the generalist's and the specialists'.

A specialist of S special classes scores S + 1: the special ones in rising order, then its dustbin, which stands for all
other classes together.

Axes: ``N`` examples, ``K`` classes, ``M`` specialists, ``S`` special classes of one.

References:
    Hinton, Vinyals and Dean, `Distilling the Knowledge in a Neural Network <https://arxiv.org/abs/1503.02531>`_, 2015,
    section 5.
"""

__all__ = [
    "Committee",
    "SpecialistData",
    "active_specialists",
    "combine",
    "confusable_groups",
    "correct_dustbin",
    "divergence",
    "specialist_data",
    "specialist_network",
]

from limbeck.specialists.combining import active_specialists, combine, divergence
from limbeck.specialists.committee import Committee
from limbeck.specialists.groups import confusable_groups
from limbeck.specialists.training import SpecialistData, correct_dustbin, specialist_data, specialist_network
