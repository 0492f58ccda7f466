"""Labeled or boxed images from many sources, and batches of them for training and testing."""

from .boxed_images import BoxedImages, without_boxes
from .class_balance import read_class_weights
from .class_map import accepted_classes, read_class_map
from .labeled_images import DataError, LabeledImages
from .masks import require_masks
from .overlaps import Overlap, overlap
from .pipelines.detection import (
    detection_batches,
    detection_test_batches,
    fitted,
    original_boxes,
)
from .pipelines.fine_tuning import feature_batches, test_batches, training_batches
from .pipelines.upstream import center_crop_batches, upstream_batches
from .sources.arrays import digits, from_arrays
from .sources.boxes_by_name import boxes_from_name, evaluation_boxes
from .sources.by_name import evaluation_images, from_name, labeled_images, with_validation
from .sources.coco import from_coco
from .sources.csv_file import from_csv
from .sources.directory import from_directory
from .sources.image_files import naming_lost_images
from .sources.scenes import Scene, scene, scenes
from .sources.tfds import from_tfds
from .sources.tfds_boxes import from_boxed_tfds
from .sources.voc import from_voc
from .sources.vtab import VTAB, VtabTask, from_vtab
from .sources.yolo import from_yolo
from .vtab_published import VTAB_PUBLISHED, VtabResult
