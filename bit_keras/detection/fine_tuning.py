"""Fine-tuning a detector, from a name and images with boxes to a tested model."""

import dataclasses
import functools
import os
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from ..choices import DETECTORS
from ..data import (
    BoxedImages,
    boxes_from_name,
    detection_batches,
    naming_lost_images,
    require_masks,
    with_validation,
)
from ..metrics.detection import require_pycocotools
from ..models.published import full_name
from ..models.resnet_v2 import copied
from ..models.spec import spec_of
from ..models.zoo import load, weights_crc32
from ..recipes import RECIPE_OF, DetectionRecipe, detection_recipe
from ..reporting.boxes import draw_boxes
from ..training import (
    Objective,
    RunFolder,
    RunOptions,
    Task,
    TrainedModel,
    how_to_go_on,
    run_task,
)
from .answers import Evaluation
from .detecting import all_detections
from .learning import BUILDERS, detector_objective
from .report import write_run_report

_PICTURES = 4  # training images to look at
_SMALL_WIDTH, _SMALL_CHANNELS, _CHANNELS = 1, 64, 256  # bodies below that width have small heads


def fine_tune_detector(
    model: keras.Model | str | os.PathLike,
    train: BoxedImages | str | os.PathLike,
    test: BoxedImages | None = None,
    *,
    workdir: str | os.PathLike,
    validation: BoxedImages | float | None = None,
    model_type: str = "retinanet",
    recipe: str | DetectionRecipe | None = None,
    channels: int | None = None,
    init: str = "pretrained",
    **options: Any,
) -> TrainedModel:
    """Fine-tunes a detector on a BiT's body: all weights, by SGD with momentum 0.9.

    An interrupted run goes on when it is called again with the same arguments.

    Args:
        model: The body: what `bit_keras.load` takes; or a `RetinaNet` or `MaskRCNN` of as many
            classes, which is trained in place, whatever `model_type`, `channels` and `init` are.
        train: The images to train on; or a name as `data.boxes_from_name` takes it, whose test
            images are then tested on as well.
        test: Images to test on, with the classes of `train`.
        workdir: The run's folder, as in `fine_tune`; `model/` is a file `model.keras` here, and
            `detections.json` holds what was found on the test images.
        validation: Images to choose a model by, or the part of `train` to set aside; by default
            those that the source of `train` has set aside, if there are some.
        model_type: What is built on a body: "retinanet"; "mask_rcnn", which finds masks too, and
            needs them on every object; or "faster_rcnn", the same without masks.
        recipe: A name of `detection_recipe`, "retinanet-bit" or "mask-rcnn-1x", by default that of
            the model's type, `fitted_to` the images: their number, and `default_size`; or a recipe,
            which is taken as it is.
        channels: Of the feature pyramid and the heads: by default 256, or 64 on bodies narrower
            than width 1.
        init: "pretrained" or "random", as in `bit_keras.load`.
        **options: As in `fine_tune`.

    Raises:
        ValueError: If an argument is wrong, or `workdir` holds another run; before any training,
            and with nothing written.
        TrainingError: If the loss is not finite.
    """
    options = RunOptions(workdir, **options)
    if isinstance(train, str | os.PathLike):
        train, own_test = boxes_from_name(os.fspath(train))
        test = own_test if test is None else test
    train = with_validation(train, validation)
    if isinstance(model, keras.Model) and spec_of(model).detector:
        model_type = model.spec.detector
        if model.spec.num_classes != train.num_classes:
            raise ValueError(
                f"{model.name} finds {model.spec.num_classes} classes, and {train.name} has "
                f"{train.num_classes}; give a body, such as the name of a model, on which a new "
                "detector is built."
            )
    if model_type not in DETECTORS:
        raise ValueError(f"model_type must be {' or '.join(DETECTORS)}, got {model_type!r}.")
    _check_sets(train, test, model_type)
    if recipe is None or isinstance(recipe, str):
        recipe = (
            detection_recipe(recipe or RECIPE_OF[model_type])
            .fitted_to(len(train))
            .replace(size=default_size(train))
        )
    task = _DetectorTraining(
        model=model,
        name=model.name if isinstance(model, keras.Model) else full_name(model),
        train=train,
        test_images=test,
        model_type=model_type,
        recipe=recipe,
        channels=channels,
        init=init,
    )
    then = functools.partial(how_to_go_on, workdir)
    with naming_lost_images(train, test, train.validation, then=then):
        return run_task(task, options)


def default_size(images: BoxedImages) -> int:
    """Returns the side in pixels that images are trained on: most images' own, at most 1,024."""
    longer = float(np.median(images.image_sizes.max(axis=1)))
    return int(np.clip(32 * round(longer / 32), 96, 1024))


def _check_sets(train, test, model_type):
    require_pycocotools()
    if model_type == "mask_rcnn":
        require_masks(train)
    for name, images in (("test", test), ("validation", train.validation)):
        if images is None:
            continue
        if model_type == "mask_rcnn":
            require_masks(images)
        if images.class_names != train.class_names:
            raise ValueError(
                f"{name} must have the {train.num_classes} classes of train in the same order, "
                f"got {images.num_classes} classes that differ."
            )
        if images.crowd.all():
            raise ValueError(
                f"{images.name} has no boxes that must be found, and average precision needs some; "
                "add images that have one."
            )
    if train.crowd.all():
        raise ValueError(f"{train.name} has no boxes to learn from; add images that have some.")


@dataclasses.dataclass(kw_only=True)
class _DetectorTraining(Task):
    model: keras.Model | str | os.PathLike
    name: str
    train: BoxedImages
    test_images: BoxedImages | None
    recipe: DetectionRecipe
    channels: int | None
    init: str
    model_type: str

    @property
    def best_by(self) -> str:
        return "mask_ap" if self.model_type == "mask_rcnn" else "ap"

    @property
    def steps(self) -> int:
        return self.recipe.steps(len(self.train))

    @property
    def batch(self) -> int:
        return self.recipe.batch

    @property
    def has_test(self) -> bool:
        return self.test_images is not None

    @property
    def has_validation(self) -> bool:
        return self.train.validation is not None

    def build(self) -> keras.Model:
        size, number = self.recipe.size, self.train.num_classes
        if isinstance(self.model, keras.Model) and self.model.spec.detector:
            replicas = tf.distribute.get_strategy().num_replicas_in_sync
            model = self.model if replicas == 1 else copied(self.model)
        else:
            body = self.model
            if not isinstance(body, keras.Model):
                body = load(self.name, num_classes=0, init=self.init)
            small = body.spec.width is not None and body.spec.width < _SMALL_WIDTH
            channels = self.channels or (_SMALL_CHANNELS if small else _CHANNELS)
            model = BUILDERS[self.model_type](body, number, size=size, channels=channels)
        source = f"{self.name} ({self.init}), trained to detect on {self.train.name}"
        facts = {"class_names": self.train.class_names, "test_size": size, "source": source}
        loss = "sigmoid" if self.model_type == "retinanet" else "softmax"
        model.spec = model.spec.replace(loss=loss, native_size=size, **facts)
        return model

    def objective(self, model: keras.Model, seed: int) -> Objective:
        return detector_objective(
            model,
            functools.partial(self._batches, seed=seed),
            batch=self.batch,
            weight_decay=self.recipe.weight_decay,
            clip_norm=self.recipe.clip_norm,
        )

    def _batches(self, step, part, seed):
        return detection_batches(
            self.train,
            batch=self.batch,
            size=self.recipe.size,
            seed=seed,
            start_step=step,
            scale_jitter=self.recipe.scale_jitter,
            part=part,
            masks=self.model_type == "mask_rcnn",
            seeds=self.model_type != "retinanet",
        )

    def schedule(self) -> keras.optimizers.schedules.LearningRateSchedule:
        return self.recipe.schedule(len(self.train))

    def settings(self) -> dict:
        given = isinstance(self.model, keras.Model)
        sets = {"train": self.train, "test": self.test_images, "validation": self.train.validation}
        masks = self.model_type == "mask_rcnn"
        described = {part: images and images.description(masks) for part, images in sets.items()}
        if not self.has_validation:
            del described["validation"]
        # Runs of a time when there was one type do not name it.
        named = {} if self.model_type == "retinanet" else {"model_type": self.model_type}
        return {
            "model": self.name,
            "task": "detection",
            **named,
            "weights": None if given else weights_crc32(self.model),
            "init": self.init,
            "channels": self.channels,
            "recipe": dataclasses.asdict(self.recipe),
            **described,
            "class_names": self.train.class_names,
        }

    def picture(self, objective: Objective) -> np.ndarray | None:
        number = max(n for n in range(1, _PICTURES + 1) if self.batch % n == 0)
        images, labels = next(iter(objective.batches(0, (0, self.batch // number))))
        if self.model_type != "retinanet":
            images, labels = images["images"], images
        drawn = []
        for image, boxes, classes in zip(images, labels["boxes"], labels["classes"], strict=True):
            there = classes.numpy() >= 0
            pixels = np.rint(255 * image.numpy()).astype(np.uint8)
            names = [self.train.class_names[k] for k in classes.numpy()[there]]
            drawn.append(draw_boxes(pixels, boxes.numpy()[there], classes.numpy()[there], names))
        return np.concatenate(drawn, axis=1).astype(np.float32) / 255

    def test(self, model: keras.Model, strategy: tf.distribute.Strategy | None) -> Evaluation:
        return _evaluation(self.test_images, model, strategy)

    def validate(self, model: keras.Model, strategy: tf.distribute.Strategy | None) -> Evaluation:
        return _evaluation(self.train.validation, model, strategy)

    def export(self, model: keras.Model, run: RunFolder) -> None:
        model.save(run.path / "model.keras")

    def report(
        self, model: keras.Model, run: RunFolder, tested: Evaluation | None, **page: Any
    ) -> None:
        sets = (self.train, self.test_images, self.train.validation)
        skipped = {file for images in sets if images is not None for file in images.skipped}
        title = f"{self.name} on {self.train.name}"
        write_run_report(run, tested, title=title, skipped=skipped, **page)


def _evaluation(images, model, strategy):
    return Evaluation(images, all_detections(model, images, strategy=strategy))
