"""The protocols that detectors are trained by, as data.

Kolesnikov et al., 2020 (https://arxiv.org/abs/1912.11370): a RetinaNet on BiT-R101x3 and COCO-2017,
with a schedule of its own in place of BiT-HyperRule. He et al., 2018 (arXiv 1811.08883): Mask R-CNN
with group normalization.
"""

import dataclasses
import math

from .epochs import EpochRecipe, suitable_batch
from .settings import LARGEST_SIDE, check_number, check_settings

_COCO_IMAGES = 118_287  # of COCO-2017 to train on
# Of recipes for small sets: steps of an epoch, images a step, and steps in all.
_LEAST_STEPS_AN_EPOCH, _LEAST_BATCH, _LEAST_STEPS = 64, 16, 2_000


@dataclasses.dataclass(frozen=True)
class DetectionRecipe(EpochRecipe):
    """The settings of one training of a detector: SGD with momentum 0.9, on all weights.

    The defaults are BiT's. It tells of no warm-up, no clipping and no range of the scale
    jitter; those three are customary values.

    Attributes:
        epochs: Passes over the images, or a part of one; epoch e ends at step ceil(e * num_images
            / batch).
        decay_epochs: The rate is divided by ten at the first step *at* the end of each of these.
        batch, base_lr, warmup_steps: As in `HyperRule`.
        weight_decay: Factor of the L2 penalty on kernels.
        clip_norm: Longer gradients, by the norm over all weights, are shortened to this length; 0
            for no clipping.
        size: Side of the square images that are trained and tested on, in pixels; a multiple of 32.
        scale_jitter: Least and largest factor by which a training image is resized.

    Raises:
        ValueError: If a setting is out of its range; the message says which.
    """

    epochs: float = 30
    decay_epochs: tuple[float, ...] = (16, 22)
    batch: int = 256
    base_lr: float = 0.08
    warmup_steps: int = 500
    weight_decay: float = 1e-4
    clip_norm: float = 10.0
    size: int = 1024
    scale_jitter: tuple[float, float] = (0.8, 1.25)

    def __post_init__(self):
        object.__setattr__(self, "decay_epochs", tuple(self.decay_epochs))
        object.__setattr__(self, "scale_jitter", tuple(self.scale_jitter))
        check_settings(self, batch=1, warmup_steps=0, weight_decay=0, clip_norm=0, size=1)
        self._check_epochs()
        if self.size < 32 or self.size % 32:
            raise ValueError(f"size must be a multiple of 32 pixels, got {self.size!r}.")
        for factor in self.scale_jitter:
            check_number("scale_jitter", factor, 0)
        least, *others = self.scale_jitter
        if len(others) != 1 or not 0 < least <= others[0] < math.inf:
            raise ValueError(
                "scale_jitter must be two rising factors above 0, such as (0.8, 1.25), got "
                f"{self.scale_jitter}."
            )
        if self.size * others[0] > LARGEST_SIDE:
            raise ValueError(
                f"scale_jitter must leave images within {LARGEST_SIDE:,} pixels, and of "
                f"{self.size} it makes {self.size * others[0]:,.0f}."
            )

    def fitted_to(
        self, num_images: int, batch: int | None = None, steps: int | None = None
    ) -> "DetectionRecipe":
        """Returns the recipe for a set of so many images; of COCO's size or more, unchanged.

        By default the batch is the largest power of two, from 16 to the recipe's own, with which an
        epoch has 64 steps or more; and epochs are stretched to 2,000 steps in all, if there are
        fewer: new heads need them, however few the images are. The warm-up is at most a tenth of
        all steps.

        The rate is proportional to the batch, and inversely to the square root of the number of
        images that are seen in all, for a short training needs larger steps; but it is not above
        the recipe's own, unless the batch is larger, too. (On drawn scenes, 1,000 steps of 16
        images with rates of 0.005, which is the paper's for that batch, 0.01, 0.02 and 0.05 end
        with an AP50 of 34, 59, 78 and 89 %.)

        Args:
            num_images: Of the set.
            batch: Images a step, if it is not the default.
            steps: Of the whole schedule, if it is not the default.
        """
        if batch is None:
            bounds = {"least": _LEAST_BATCH, "most": self.batch}
            batch = suitable_batch(num_images, steps=_LEAST_STEPS_AN_EPOCH, **bounds)
        recipe = self.scaled_to_batch(batch)
        if steps:
            # Half a step less, so that rounding cannot make it one more.
            recipe = recipe.with_epochs((steps - 0.5) * batch / num_images)
        elif recipe.steps(num_images) < _LEAST_STEPS:
            recipe = recipe.with_epochs(math.ceil(_LEAST_STEPS * batch / num_images))
        steps = recipe.steps(num_images)
        fewer = max(1.0, self.epochs * _COCO_IMAGES / (steps * batch))
        return recipe.replace(
            base_lr=min(recipe.base_lr * fewer**0.5, max(self.base_lr, recipe.base_lr)),
            warmup_steps=min(recipe.warmup_steps, steps // 10),
        )


# He et al., 2018: what they call the 1x schedule, of 90,000 steps of 16 images, with a rate that is
# divided by ten after 60,000 and 80,000. Sizes are ours: theirs are 800 pixels for the short side.
_ONE_TIME = 90_000 * 16 / _COCO_IMAGES
DETECTION_RECIPES = {
    "retinanet-bit": DetectionRecipe(),
    "mask-rcnn-1x": DetectionRecipe(
        epochs=_ONE_TIME,
        decay_epochs=(_ONE_TIME * 6 / 9, _ONE_TIME * 8 / 9),
        batch=16,
        base_lr=0.02,
    ),
}
RECIPE_OF = {  # detectors, and the recipes that are theirs
    "retinanet": "retinanet-bit",
    "mask_rcnn": "mask-rcnn-1x",
    "faster_rcnn": "mask-rcnn-1x",
}


def detection_recipe(name: str) -> DetectionRecipe:
    """Returns the recipe of that name; raises ValueError if there is none."""
    if name not in DETECTION_RECIPES:
        raise ValueError(f"recipe must be one of {', '.join(DETECTION_RECIPES)}, got {name!r}.")
    return DETECTION_RECIPES[name]
