"""Big Transfer (BiT) for Keras 3: load a published model, fine-tune it by rule, export it."""

import importlib.metadata

from . import data
from .classification.answers import Evaluation
from .classification.evaluation import evaluate
from .classification.features import image_features
from .classification.few_shot import few_shot_curve
from .classification.fine_tuning import fine_tune
from .classification.prediction import predict_images
from .classification.pretraining import pretrain
from .classification.vtab import run_vtab
from .exporting import export
from .layers import GroupNormalization, StdConv2D
from .models.resnet_v2 import ResNetV2
from .models.zoo import list_models, load
from .recipes.hyperrule import HyperRule
from .training import TrainedModel, make_strategy

try:
    __version__ = importlib.metadata.version("bit_keras")
except importlib.metadata.PackageNotFoundError:  # a source tree that is not installed
    __version__ = "unknown"

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
    "image_features",
    "list_models",
    "load",
    "make_strategy",
    "predict_images",
    "pretrain",
    "run_vtab",
]
