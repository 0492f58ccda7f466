"""Big Transfer (BiT) for Keras 3."""

from .hyperrule import HyperRule
from .layers import GroupNormalization, StdConv2D
from .resnet_v2 import ResNetV2
from .zoo import list_models, load

__all__ = ["GroupNormalization", "HyperRule", "ResNetV2", "StdConv2D", "list_models", "load"]
