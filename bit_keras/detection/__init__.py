"""Object detection, from images with boxes to boxes with names."""

from ..training.backends import require_tensorflow

require_tensorflow(__name__)

from .evaluation import evaluate_detector
from .exporting import export_detector
from .fine_tuning import fine_tune_detector
from .mask_rcnn import MaskRCNN
from .prediction import detect_objects
from .retinanet import RetinaNet
