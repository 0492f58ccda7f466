"""Big Transfer (BiT) for Keras 3: load a published model, fine-tune it by rule, export it."""

from . import data
from .evaluation import Evaluation, evaluate
from .exporting import export
from .few_shot import few_shot_curve
from .fine_tuning import fine_tune
from .hyperrule import HyperRule
from .layers import GroupNormalization, StdConv2D
from .predicting import predict_images
from .pretraining import pretrain
from .resnet_v2 import ResNetV2
from .runs import TrainedModel
from .training import make_strategy
from .vtab_suite import run_vtab
from .zoo import list_models, load

__all__ = [
    "Evaluation",
    "GroupNormalization",
    "HyperRule",
    "ResNetV2",
    "StdConv2D",
    "TrainedModel",
    "data",
    "evaluate",
    "export",
    "few_shot_curve",
    "fine_tune",
    "list_models",
    "load",
    "make_strategy",
    "predict_images",
    "pretrain",
    "run_vtab",
]
