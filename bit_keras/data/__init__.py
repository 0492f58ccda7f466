"""Labeled images from many sources, and batches of them for training and testing."""

from .class_balance import read_class_weights
from .class_map import accepted_classes, read_class_map
from .labeled_images import DataError, LabeledImages
from .overlaps import Overlap, overlap
from .pipelines.fine_tuning import feature_batches, test_batches, training_batches
from .pipelines.upstream import center_crop_batches, upstream_batches
from .sources.arrays import digits, from_arrays
from .sources.by_name import evaluation_images, from_name, labeled_images, with_validation
from .sources.csv_file import from_csv
from .sources.directory import from_directory
from .sources.image_files import naming_lost_images
from .sources.tfds import from_tfds
from .sources.vtab import VTAB, VtabTask, from_vtab
from .vtab_published import VTAB_PUBLISHED, VtabResult
