"""The protocols BiT's upstream models were trained by, as data.

Kolesnikov et al., 2020 (https://arxiv.org/abs/1912.11370), hyper-parameters of upstream
pre-training: SGD with momentum 0.9, random-resized crops and horizontal flips.
"""

import dataclasses

from .epochs import EpochRecipe, suitable_batch
from .settings import PATIENCE, check_settings

_LEAST_STEPS, _LEAST_BATCH = 64, 32  # an epoch, and images a step, of recipes for small sets


@dataclasses.dataclass(frozen=True)
class UpstreamRecipe(EpochRecipe):
    """The settings of one pre-training; the defaults are what the paper's three runs share.

    Epoch e ends at step ceil(e * num_examples / batch).

    Attributes:
        epochs: Passes over the images.
        decay_epochs: The rate is divided by ten at the first step *at* the end of each of these.
        loss: "softmax" for one label an image, "sigmoid" for any number of them.
        batch, base_lr, warmup_steps, mixup_alpha: As in `HyperRule`.
        crop: Side of the square that is trained and tested on, in pixels.
        test_resize: What the short side of a test image becomes before the crop, in pixels.

    Raises:
        ValueError: If a setting is out of its range; the message says which.
    """

    epochs: int
    decay_epochs: tuple[float, ...]
    loss: str
    batch: int = 4096
    base_lr: float = 0.03 * 4096 / 256
    warmup_steps: int = 5000
    weight_decay: float = 1e-4
    crop: int = 224
    test_resize: int = 256
    mixup_alpha: float = 0.0

    def __post_init__(self):
        object.__setattr__(self, "decay_epochs", tuple(self.decay_epochs))
        check_settings(self, epochs=1, batch=1, warmup_steps=0, weight_decay=0, mixup_alpha=0)
        check_settings(self, crop=32, test_resize=self.crop)
        self._check_epochs()
        if self.loss not in ("softmax", "sigmoid"):
            raise ValueError(f'loss must be "softmax" or "sigmoid", got {self.loss!r}.')

    @property
    def head_bias(self) -> float:
        """Where the head's bias starts: at -10, every class of a sigmoid starts as absent."""
        return -10.0 if self.loss == "sigmoid" else 0.0

    def distillation(self) -> "UpstreamRecipe":
        """Returns the recipe for learning from a teacher: ten times the epochs, and uniform mixup.

        As `HyperRule.distillation`. Runs of Beyer et al. on ILSVRC-2012 take 300 to 9,600 epochs,
        with 1,200 as "a good middle-ground", where BiT-S has 90.
        """
        return self.with_epochs(PATIENCE * self.epochs).replace(mixup_alpha=1.0)

    def fitted_to(self, num_examples: int, batch: int | None = None) -> "UpstreamRecipe":
        """Returns the recipe for a set of so many images; of ImageNet's size or more, unchanged.

        By default the batch is the largest power of two, up to the recipe's own, with which an
        epoch has 64 steps or more. The rate is proportional to it. A warm-up of more than a fifth
        of all steps becomes a tenth of them.
        """
        if batch is None:
            bounds = {"least": _LEAST_BATCH, "most": self.batch}
            batch = suitable_batch(num_examples, steps=_LEAST_STEPS, **bounds)
        recipe = self.scaled_to_batch(batch)
        steps = recipe.steps(num_examples)
        return (
            recipe.replace(warmup_steps=steps // 10) if 5 * recipe.warmup_steps > steps else recipe
        )


RECIPES = {
    # ILSVRC-2012: 1.28 million images, 1,000 classes.
    "BiT-S": UpstreamRecipe(epochs=90, decay_epochs=(30, 60, 80), loss="softmax"),
    # ImageNet-21k: 14.2 million images, 21,843 classes, which are not exclusive.
    "BiT-M": UpstreamRecipe(epochs=90, decay_epochs=(30, 60, 80), loss="sigmoid"),
    # JFT-300M: 300 million images, 18,291 classes, 1.26 labels an image.
    "BiT-L": UpstreamRecipe(epochs=40, decay_epochs=(10, 23, 30, 37), loss="sigmoid"),
}


def recipe(name: str) -> UpstreamRecipe:
    """Returns the recipe of that name; raises ValueError if there is none."""
    if name not in RECIPES:
        raise ValueError(f"recipe must be one of {', '.join(RECIPES)}, got {name!r}.")
    return RECIPES[name]
