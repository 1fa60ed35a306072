"""Data: sources of examples, and feeds that bring them to the device in batches."""

from jaxvision.data.feed import Feed, open_feed
from jaxvision.data.lazy_masks import LazyMasks, MaskFiles
from jaxvision.data.mask import MaskRule
from jaxvision.data.open import open_dataset
from jaxvision.data.order import epoch_order
from jaxvision.data.parts import ArrayPart, Dataset, FilePart, Part, SequentialPart, take

__all__ = [
    "ArrayPart",
    "Dataset",
    "Feed",
    "FilePart",
    "LazyMasks",
    "MaskFiles",
    "MaskRule",
    "Part",
    "SequentialPart",
    "epoch_order",
    "open_dataset",
    "open_feed",
    "take",
]
