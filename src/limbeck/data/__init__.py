"""Data: sources, examples, splits, augmentation and batches."""

__all__ = ["DataSet", "Examples", "Feed", "Views", "cut_validation", "open_data", "subset"]

from limbeck.data.augment import Views
from limbeck.data.data_set import DataSet
from limbeck.data.examples import Examples
from limbeck.data.feed import Feed
from limbeck.data.opening import open_data
from limbeck.data.splits import cut_validation, subset
