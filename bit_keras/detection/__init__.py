"""Object detection, from images with boxes to boxes with names."""

from .retinanet import RetinaNet
