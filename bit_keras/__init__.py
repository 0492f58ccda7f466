"""Big Transfer (BiT) for Keras 3: load a published model, fine-tune it by rule, export it."""

import importlib
import sys
from typing import TYPE_CHECKING

import wrapt

if TYPE_CHECKING:
    from . import data as data
    from .classification.answers import Evaluation as Evaluation
    from .classification.evaluation import evaluate as evaluate
    from .classification.features import image_features as image_features
    from .classification.few_shot import few_shot_curve as few_shot_curve
    from .classification.fine_tuning import fine_tune as fine_tune
    from .classification.prediction import predict_images as predict_images
    from .classification.pretraining import pretrain as pretrain
    from .classification.vtab import run_vtab as run_vtab
    from .detection import detect_objects as detect_objects
    from .detection import evaluate_detector as evaluate_detector
    from .detection import export_detector as export_detector
    from .detection import fine_tune_detector as fine_tune_detector
    from .exporting import export as export
    from .layers import GroupNormalization as GroupNormalization
    from .layers import StdConv2D as StdConv2D
    from .models.resnet_v2 import ResNetV2 as ResNetV2
    from .models.zoo import list_models as list_models
    from .models.zoo import load as load
    from .recipes.hyperrule import HyperRule as HyperRule
    from .training import TrainedModel as TrainedModel
    from .training import make_strategy as make_strategy

__all__ = [
    "Evaluation",
    "GroupNormalization",
    "HyperRule",
    "ResNetV2",
    "StdConv2D",
    "TrainedModel",
    "data",
    "detect_objects",
    "evaluate",
    "evaluate_detector",
    "export",
    "export_detector",
    "few_shot_curve",
    "fine_tune",
    "fine_tune_detector",
    "image_features",
    "list_models",
    "load",
    "make_strategy",
    "predict_images",
    "pretrain",
    "run_vtab",
]

# The same names once more, because TensorFlow takes seconds to import, and `bit-finetune --help`
# should not: they are imported at the first use of one of them.
_MODULES = {
    "Evaluation": ".classification.answers",
    "GroupNormalization": ".layers",
    "HyperRule": ".recipes.hyperrule",
    "ResNetV2": ".models.resnet_v2",
    "StdConv2D": ".layers",
    "TrainedModel": ".training",
    "detect_objects": ".detection",
    "evaluate": ".classification.evaluation",
    "evaluate_detector": ".detection",
    "export": ".exporting",
    "export_detector": ".detection",
    "few_shot_curve": ".classification.few_shot",
    "fine_tune": ".classification.fine_tuning",
    "fine_tune_detector": ".detection",
    "image_features": ".classification.features",
    "list_models": ".models.zoo",
    "load": ".models.zoo",
    "make_strategy": ".training",
    "predict_images": ".classification.prediction",
    "pretrain": ".classification.pretraining",
    "run_vtab": ".classification.vtab",
}
_ON_EVERY_BACKEND = (  # of Keras; the others need TensorFlow
    *("GroupNormalization", "HyperRule", "ResNetV2", "StdConv2D", "export", "list_models", "load"),
)
_LIGHT = ("checkpoints", "metrics", "recipes")  # folders that import no Keras
_FOLDERS = (
    *("classification", "data", "detection", "exporting", "layers", "models", "reporting"),
    "training",
)


def __getattr__(name):
    if name in (*_LIGHT, *_FOLDERS):
        return importlib.import_module(f".{name}", __name__)
    if name in __all__:
        _import_all()
        return globals()[name]
    if name == "__version__":
        return _version()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__():
    return sorted({*globals(), *__all__, *_LIGHT, *_FOLDERS, "__version__"})


def _import_all():
    from .training.backends import on_tensorflow, stand_in

    everything = on_tensorflow()
    importlib.import_module(".recipes.schedule", __name__)  # Keras classes that are not public
    if everything:
        importlib.import_module(".detection.retinanet", __name__)  # the same
    for name, module in _MODULES.items():
        if everything or name in _ON_EVERY_BACKEND:
            globals()[name] = getattr(importlib.import_module(module, __name__), name)
        else:
            globals()[name] = stand_in(f"{__name__}.{name}")


def _version():
    import importlib.metadata

    try:
        return importlib.metadata.version("bit_keras")
    except importlib.metadata.PackageNotFoundError:  # a source tree that is not installed
        return "unknown"


def _register(module):
    """Registers our Keras classes, by importing them, wherever Keras is imported.

    `keras.saving.load_model` then finds them, after any import of this package. Where one of our
    own modules is what imports Keras, the others wait until the outermost is complete.
    """
    ours = [name for name in sys.modules if name in _HOOKED]  # in the order of their imports
    if "keras" in sys.modules and (not ours or ours[0] == module.__name__):
        _import_all()


_HOOKED = [f"{__name__}.{folder}" for folder in _FOLDERS]
for _name in ("keras", *_HOOKED):  # at once, where Keras is imported already
    wrapt.register_post_import_hook(_register, _name)
