"""Labelled images from many sources, and the batches to train and test on."""

from .arrays import digits, from_arrays
from .batches import feature_batches, test_batches, training_batches
from .by_name import evaluation_images, from_name
from .class_map import accepted_classes, read_class_map
from .directory import from_directory
from .labeled_images import DataError, LabeledImages
from .table import from_csv
from .tfds_builder import from_tfds
from .upstream_batches import centre_crop_batches, upstream_batches
from .vtab import VTAB, VTAB_PUBLISHED, VtabResult, VtabTask, from_vtab

__all__ = [
    "VTAB",
    "VTAB_PUBLISHED",
    "DataError",
    "LabeledImages",
    "VtabResult",
    "VtabTask",
    "accepted_classes",
    "centre_crop_batches",
    "digits",
    "evaluation_images",
    "feature_batches",
    "from_arrays",
    "from_csv",
    "from_directory",
    "from_name",
    "from_tfds",
    "from_vtab",
    "read_class_map",
    "test_batches",
    "training_batches",
    "upstream_batches",
]
