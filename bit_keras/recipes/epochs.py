"""What recipes in epochs share: epoch e ends at step ceil(e * num_examples / batch)."""

import dataclasses
import itertools
import math
from typing import TYPE_CHECKING, Any, TypeVar

from .settings import check_number, check_step

if TYPE_CHECKING:
    from .schedule import PiecewiseSchedule

Recipe = TypeVar("Recipe", bound="EpochRecipe")


class EpochRecipe:
    """Base of dataclasses with `epochs`, `decay_epochs`, `batch`, `base_lr` and `warmup_steps`."""

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

    def replace(self: Recipe, **changes: Any) -> Recipe:
        """Returns a copy with some settings changed, as `dataclasses.replace`."""
        return dataclasses.replace(self, **changes)

    def with_epochs(self: Recipe, epochs: float) -> Recipe:
        """Returns the recipe stretched or shortened to so many epochs, decays and warm-up alike."""
        check_number("epochs", epochs, 0)
        scale = epochs / self.epochs
        return self.replace(
            epochs=epochs,
            decay_epochs=tuple(scale * epoch for epoch in self.decay_epochs),
            warmup_steps=round(scale * self.warmup_steps),
        )

    def scaled_to_batch(self: Recipe, batch: int) -> Recipe:
        """Returns the recipe for another batch: the same rate an image, after as many images.

        The rate is proportional to the batch (Goyal et al., 2017), and the warm-up takes as many
        images, so its steps are inversely proportional.
        """
        check_number("batch", batch, 1)
        return self.replace(
            batch=batch,
            base_lr=self.base_lr * batch / self.batch,
            warmup_steps=round(self.warmup_steps * self.batch / batch),
        )

    def _check_epochs(self):
        for epoch in (*self.decay_epochs, self.epochs):
            check_number("epochs", epoch, 0)
        edges = (0, *self.decay_epochs, self.epochs)
        if any(later <= earlier for earlier, later in itertools.pairwise(edges)):
            raise ValueError(
                f"decay_epochs must rise between 0 and the {self.epochs} epochs, got "
                f"{self.decay_epochs}; change both together."
            )

    def _steps(self, epochs, num_examples):
        if num_examples < 1:
            raise ValueError(f"num_examples must be 1 or more, got {num_examples!r}.")
        return math.ceil(epochs * num_examples / self.batch)


def suitable_batch(num_examples: int, *, steps: int, least: int, most: int) -> int:
    """Returns the largest power of two with which an epoch has so many steps, within bounds.

    Args:
        num_examples: Images of an epoch.
        steps: Steps that an epoch should have, or more.
        least, most: Bounds of the batch.
    """
    return min(most, 2 ** int(math.log2(max(num_examples / steps, least))))
