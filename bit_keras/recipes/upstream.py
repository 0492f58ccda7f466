"""The protocols BiT's upstream models were trained by, as data.

Kolesnikov et al., 2020 (https://arxiv.org/abs/1912.11370), hyper-parameters of upstream
pre-training: SGD with momentum 0.9, random-resized crops and horizontal flips.
"""

import dataclasses
import itertools
import math
from typing import TYPE_CHECKING, Any

from .settings import PATIENCE, check_settings, check_step

if TYPE_CHECKING:
    from .schedule import PiecewiseSchedule

_LEAST_STEPS, _LEAST_BATCH = 64, 32  # an epoch, and images a step, of recipes for small sets


@dataclasses.dataclass(frozen=True)
class UpstreamRecipe:
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
        edges = (0, *self.decay_epochs, self.epochs)
        if any(later <= earlier for earlier, later in itertools.pairwise(edges)):
            raise ValueError(
                f"decay_epochs must rise between 0 and the {self.epochs} epochs, got "
                f"{self.decay_epochs}; change both together."
            )
        if self.loss not in ("softmax", "sigmoid"):
            raise ValueError(f'loss must be "softmax" or "sigmoid", got {self.loss!r}.')

    @property
    def head_bias(self) -> float:
        """Where the head's bias starts: at -10, every class of a sigmoid starts as absent."""
        return -10.0 if self.loss == "sigmoid" else 0.0

    def steps(self, num_examples: int) -> int:
        """Returns the number of optimizer steps on so many images, the last one included."""
        return self._steps(self.epochs, num_examples)

    def learning_rate(self, step: int, num_examples: int) -> float:
        """Returns the learning rate of a step, counted from 0.

        Warm-up and decays multiply, so a decay inside the warm-up (few images) counts at once.
        Raises ValueError if the recipe has no such step.
        """
        check_step(step, self.steps(num_examples))
        return self.schedule(num_examples).rate(step)

    def schedule(self, num_examples: int) -> "PiecewiseSchedule":
        """Returns the same learning rate as a Keras schedule, for an optimizer."""
        from .schedule import PiecewiseSchedule  # imports Keras, which --help should not

        decay_steps = [self._steps(epoch, num_examples) for epoch in self.decay_epochs]
        return PiecewiseSchedule(self.base_lr, self.warmup_steps, decay_steps)

    def replace(self, **changes: Any) -> "UpstreamRecipe":
        """Returns a copy with some settings changed, as `dataclasses.replace`."""
        return dataclasses.replace(self, **changes)

    def with_epochs(self, epochs: int) -> "UpstreamRecipe":
        """Returns the recipe stretched or shortened to so many epochs, decays and warm-up alike."""
        scale = epochs / self.epochs
        return self.replace(
            epochs=epochs,
            decay_epochs=tuple(scale * epoch for epoch in self.decay_epochs),
            warmup_steps=round(scale * self.warmup_steps),
        )

    def distillation(self) -> "UpstreamRecipe":
        """Returns the recipe for learning from a teacher: ten times the epochs, and uniform mixup.

        As `HyperRule.distillation`. Runs of Beyer et al. on ILSVRC-2012 take 300 to 9,600 epochs,
        with 1,200 as "a good middle-ground", where BiT-S has 90.
        """
        return self.with_epochs(PATIENCE * self.epochs).replace(mixup_alpha=1.0)

    def scaled_to_batch(self, batch: int) -> "UpstreamRecipe":
        """Returns the recipe for another batch: the same rate an image, after as many images.

        The rate is proportional to the batch, as the recipe itself has it (0.03 for every 256
        images), and the warm-up takes as many images, so its steps are inversely proportional.
        """
        if batch < 1:
            raise ValueError(f"batch must be 1 or more, got {batch!r}.")
        return self.replace(
            batch=batch,
            base_lr=self.base_lr * batch / self.batch,
            warmup_steps=round(self.warmup_steps * self.batch / batch),
        )

    def fitted_to(self, num_examples: int, batch: int | None = None) -> "UpstreamRecipe":
        """Returns the recipe for a set of so many images; of ImageNet's size or more, unchanged.

        By default the batch is the largest power of two, up to the recipe's own, with which an
        epoch has 64 steps or more. The rate is proportional to it. A warm-up of more than a fifth
        of all steps becomes a tenth of them.
        """
        if batch is None:
            suitable = 2 ** int(math.log2(max(num_examples / _LEAST_STEPS, _LEAST_BATCH)))
            batch = min(self.batch, suitable)
        recipe = self.scaled_to_batch(batch)
        steps = recipe.steps(num_examples)
        return (
            recipe.replace(warmup_steps=steps // 10) if 5 * recipe.warmup_steps > steps else recipe
        )

    def _steps(self, epochs, num_examples):
        if num_examples < 1:
            raise ValueError(f"num_examples must be 1 or more, got {num_examples!r}.")
        return math.ceil(epochs * num_examples / self.batch)


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
