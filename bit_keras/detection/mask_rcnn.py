"""Mask R-CNN on a BiT: feature pyramid, region proposals, and heads of boxes and masks.

    block1 ... block4 -> feature_pyramid -> P2 ... P6 -> region_head -> proposals
    P2 ... P5 at proposals -> box_head -> detections
    P2 ... P5 at detections -> mask_head -> masks

He et al., 2017, "Mask R-CNN", https://arxiv.org/abs/1703.06870.
"""

import numbers
import os
from collections.abc import Sequence

import keras

from ..data.masks import MASK_SIDE
from ..models.resnet_v2 import pyramid
from ..models.spec import SpecifiedModel, spec_of
from ..models.zoo import load
from .anchors import checked_settings
from .detecting import MAX_BOXES, SCORE_THRESHOLD
from .feature_pyramid import FeaturePyramid, start_from_last_norm
from .kerascv import require_keras_cv
from .proposals import REGION_LEVELS, Proposals, default_region_sizes
from .region_heads import BoxHead, MaskHead, RegionHead
from .roi_align import RoIAlign
from .roi_targets import MASK_SIZE, RegionTargets, RoITargets, masks_learned
from .second_stage import FoundBoxes, OwnMasks, RegionDetections

_ALIGNED = ("P2", "P3", "P4", "P5")
_BOX_BINS, _MASK_BINS = 7, MASK_SIZE // 2
# Detectron2's, except that 300 proposals are looked at in use, where it has 1,000: three times as
# many as there may be detections.
_USED = {"candidates": 1000, "number": 300}
_LEARNED = {"candidates": 2000, "number": 1000}


def MaskRCNN(  # noqa: N802 (it reads as the class of its result, as in keras.applications)
    model: keras.Model | str | os.PathLike,
    num_classes: int,
    *,
    size: int = 512,
    anchor_sizes: Sequence[float] | None = None,
    channels: int = 256,
    masks: bool = True,
    init: str = "pretrained",
) -> SpecifiedModel:
    """Builds a detector of two stages on a BiT's body; all but the body is new.

    The body's maps are pre-activated as in `RetinaNet`. `training_model` is what it learns by.

    Args:
        model: As in `RetinaNet`.
        num_classes: Classes of objects, without a background.
        size: As in `RetinaNet`.
        anchor_sizes: Sides of the square anchors of P2 to P6 in pixels; by default they follow
            `size`, see `default_region_sizes`. Each level has three aspect ratios. That of P2 also
            tells from which level the features of a box come.
        channels: Of the pyramid and the heads; a multiple of 8.
        masks: Whether it finds masks; without, it is a Faster R-CNN.
        init: As in `bit_keras.load`, for a model that is loaded here.

    Returns:
        A functional model: float32 RGB in [0, 1], `[batch, height, width, 3]` with sides that are
        multiples of 32, to the objects it finds, the best first: `boxes`, float32 `[batch, 100, 4]`
        as left, top, right, bottom in pixels of these images, cut at their edges; `scores`, float32
        `[batch, 100]`, probabilities above 0.05; `classes`, int32 `[batch, 100]`; and `masks`,
        float32 `[batch, 100, 28, 28]`, how likely each part of the box is the object's. Where there
        are fewer, the class is -1, and all else is 0. Its `spec` is the body's, with
        `anchor_sizes`, `test_size` and `detector`: "mask_rcnn" or "faster_rcnn".

    Raises:
        ValueError: If an argument is not one of the above; or KerasCV, which its training and use
            need, is not installed.
    """
    require_keras_cv()
    sizes = checked_settings(
        *(num_classes, size, channels, anchor_sizes),
        levels=REGION_LEVELS,
        default=default_region_sizes,
    )
    if not isinstance(model, keras.Model):
        model = load(model, num_classes=0, init=init)
    num_classes = int(num_classes)
    body = pyramid(model, _ALIGNED)
    maps = FeaturePyramid(channels, spec_of(model).groups or 32, "P2", name="feature_pyramid")(
        body.output
    )
    regions = RegionHead(channels, name="region_head")(maps)
    proposals = Proposals(sizes, **_USED, name="proposals")(regions, body.input)
    fine = {level: maps[level] for level in _ALIGNED}
    features = RoIAlign(_BOX_BINS, sizes[0], name="box_features")(fine, proposals["boxes"])
    rois = BoxHead(num_classes, channels, name="box_head")(features)
    found = RegionDetections(SCORE_THRESHOLD, MAX_BOXES, name="detections")(
        rois, proposals, body.input
    )
    if masks:
        boxes = FoundBoxes(name="found_boxes")(found["boxes"], found["classes"])
        features = RoIAlign(_MASK_BINS, sizes[0], name="mask_features")(fine, boxes)
        logits = MaskHead(num_classes, channels, name="mask_head")(features)
        found = {**found, "masks": OwnMasks(name="masks")(logits, found["classes"])}
    name = "mask_rcnn" if masks else "faster_rcnn"
    facts = {"anchor_sizes": sizes, "test_size": size, "test_resize": None, "rule_changes": {}}
    spec = spec_of(model).with_classes(num_classes).replace(detector=name, **facts)
    detector = SpecifiedModel(body.input, found, name=name, spec=spec)
    start_from_last_norm(detector, model)
    return detector


def training_model(detector: SpecifiedModel, *, rois: int | None = None) -> keras.Model:
    """Returns a model of a detector's layers whose outputs are what `mask_rcnn_loss` takes.

    It proposes, chooses what to learn from, and answers there. Its weights are the detector's.

    Args:
        detector: Of `MaskRCNN`.
        rois: Boxes of an image that the second stage learns from, at most a quarter with an object;
            from 4 to 1,000; by default 128, or 64 on bodies narrower than width 1.

    Returns:
        A model of a dictionary: `images`, as the detector takes them; `boxes`, float32
        `[batch, N, 4]`; `classes`, int32 `[batch, N]`, -1 where there is no object; `seeds`, int32
        `[batch, 2]`, which tell the choices; and, with masks, `masks`, uint8
        `[batch, N, 112, 112]`, and `frames`, float32 `[batch, N, 4]`, as `mask_targets` takes them.

    Raises:
        ValueError: If `rois` is another number.
    """
    if rois is None:
        small = detector.spec.width is not None and detector.spec.width < 1
        rois = 64 if small else 128
    if not (isinstance(rois, numbers.Integral) and 4 <= rois <= _LEARNED["number"]):
        raise ValueError(f"rois must be 4 to {_LEARNED['number']:,}, got {rois!r}.")
    sizes, has_masks = detector.spec.anchor_sizes, detector.spec.detector == "mask_rcnn"
    labels = {
        "boxes": keras.Input((None, 4), name="boxes"),
        "classes": keras.Input((None,), name="classes", dtype="int32"),
        "seeds": keras.Input((2,), name="seeds", dtype="int32"),
    }
    if has_masks:
        shape = (None, MASK_SIDE, MASK_SIDE)
        labels["masks"] = keras.Input(shape, name="masks", dtype="uint8")
        labels["frames"] = keras.Input((None, 4), name="frames")
    images = detector.input
    maps = detector.get_layer("feature_pyramid")(pyramid(detector, _ALIGNED).output)
    regions = detector.get_layer("region_head")(maps)
    proposals = Proposals(sizes, **_LEARNED, name="proposals")(regions, images)
    targets = RoITargets(rois, has_masks, name="roi_targets")(proposals, labels)
    fine = {level: maps[level] for level in _ALIGNED}
    features = RoIAlign(_BOX_BINS, sizes[0], name="box_features")(fine, targets["rois"])
    outputs = {
        "regions": regions,
        "region_targets": RegionTargets(sizes, name="region_targets")(labels, images),
        "rois": detector.get_layer("box_head")(features),
        "roi_targets": targets,
    }
    if has_masks:
        first = targets["rois"][:, : masks_learned(rois)]
        features = RoIAlign(_MASK_BINS, sizes[0], name="mask_features")(fine, first)
        outputs["masks"] = detector.get_layer("mask_head")(features)
    return keras.Model({"images": images, **labels}, outputs, name=f"{detector.name}_training")
