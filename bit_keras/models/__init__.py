"""The architecture, and the published models by name."""

from .resnet_v2 import ResNetV2
from .zoo import check_source, list_models, load, weights_crc32
