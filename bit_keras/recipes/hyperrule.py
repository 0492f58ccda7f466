"""BiT-HyperRule: every setting of a fine-tuning from the number and the size of its images.

The paper (Kolesnikov et al., 2020, https://arxiv.org/abs/1912.11370, section 3.3) and the code that
was released with it differ in the schedule, the resolution and mixup's reach; both are here.
"""

import dataclasses
from typing import Any

from .schedule import PATIENCE, PiecewiseSchedule, check_step

SMALL, MEDIUM = 20_000, 500_000  # a data set is small below the first, medium below the second
STEPS = {"small": 500, "medium": 10_000, "large": 20_000}
RELEASE_WARMUP = {"small": 100, "medium": 500, "large": 500}
RELEASE_DECAYS = {
    "small": (200, 300, 400),
    "medium": (3_000, 6_000, 9_000),
    "large": (6_000, 12_000, 18_000),
}


def _size_class(num_examples: int) -> str:
    """Returns "small" (fewer than 20,000 examples), "medium" (fewer than 500,000) or "large"."""
    if num_examples < 1:
        raise ValueError(f"num_examples must be 1 or more, got {num_examples!r}.")
    if num_examples < SMALL:
        return "small"
    return "medium" if num_examples < MEDIUM else "large"


@dataclasses.dataclass(frozen=True)
class HyperRule:
    """The settings of one fine-tuning: SGD with momentum 0.9 and no weight decay, on all weights.

    Attributes:
        steps: Number of optimizer steps.
        batch: Images a step.
        base_lr: The highest learning rate.
        warmup_steps: The rate rises linearly from 0 and reaches `base_lr` at this step; 0 for none.
        decay_steps: The rate is divided by ten at every step *after* each of these.
        resize: Side of the square a training image is resized to, in pixels.
        crop: Side of the random square cut from it, and of test images, in pixels.
        mixup_alpha: Both parameters of the Beta distribution mixup draws from; 0 for no mixup.
    """

    steps: int
    batch: int
    base_lr: float
    warmup_steps: int
    decay_steps: tuple[int, ...]
    resize: int
    crop: int
    mixup_alpha: float

    def __post_init__(self):
        object.__setattr__(self, "decay_steps", tuple(self.decay_steps))
        for field, least in (("steps", 1), ("batch", 1), ("warmup_steps", 0), ("crop", 32)):
            value = getattr(self, field)
            if value < least:
                raise ValueError(f"{field} must be {least} or more, got {value!r}.")
        if self.resize < self.crop:
            raise ValueError(
                f"resize must be at least the crop, {self.crop} pixels, got {self.resize!r}."
            )
        if self.base_lr <= 0:
            raise ValueError(f"base_lr must be above 0, got {self.base_lr!r}.")
        if self.mixup_alpha < 0:
            raise ValueError(f"mixup_alpha must be 0 (none) or more, got {self.mixup_alpha!r}.")

    @classmethod
    def release(cls, num_examples: int, image_size: tuple[int, int]) -> "HyperRule":
        """The rule as the released code has it.

        Args:
            num_examples: Number of training images.
            image_size: Height and width of a typical image, in pixels.
        """
        size = _size_class(num_examples)
        height, width = image_size
        resize, crop = (160, 128) if height * width < 96 * 96 else (512, 480)
        return cls(
            steps=STEPS[size],
            batch=512,
            base_lr=0.003,
            warmup_steps=RELEASE_WARMUP[size],
            decay_steps=RELEASE_DECAYS[size],
            resize=resize,
            crop=crop,
            mixup_alpha=0.0 if size == "small" else 0.1,
        )

    @classmethod
    def paper(
        cls, num_examples: int, image_size: tuple[int, int], *, largest_model: bool = False
    ) -> "HyperRule":
        """The rule as the paper's section 3.3 has it: no warm-up, decays at 30, 60 and 90 %.

        Args:
            num_examples: Number of training images.
            image_size: Height and width of a typical image, in pixels.
            largest_model: True for R152x4, which the paper gives larger images.
        """
        size = _size_class(num_examples)
        height, width = image_size
        if height * width <= 96 * 96:
            resize, crop = 160, 128
        else:
            resize, crop = (512, 480) if largest_model else (448, 384)
        return cls(
            steps=STEPS[size],
            batch=512,
            base_lr=0.003,
            warmup_steps=0,
            decay_steps=tuple(STEPS[size] * percent // 100 for percent in (30, 60, 90)),
            resize=resize,
            crop=crop,
            mixup_alpha=0.0 if size == "small" else 0.1,
        )

    def replace(self, **changes: Any) -> "HyperRule":
        """Returns a copy with some settings changed, as `dataclasses.replace`."""
        return dataclasses.replace(self, **changes)

    def with_steps(self, steps: int) -> "HyperRule":
        """Returns the same schedule stretched or shortened to another number of steps."""
        scale = steps / self.steps
        return self.replace(
            steps=steps,
            warmup_steps=round(self.warmup_steps * scale),
            decay_steps=tuple(round(step * scale) for step in self.decay_steps),
        )

    def distillation(self) -> "HyperRule":
        """Returns the rule for learning from a teacher: ten times the steps, and uniform mixup.

        Beyer et al., 2022 (https://arxiv.org/abs/2106.05237): every batch is mixed, by a weight
        that is uniform in [0, 1] (alpha 1), and the student is shown many more such mixtures than
        there are images. Their shortest runs on small sets (1,000 epochs of Pets, 10,000 of
        Flowers) take 13 and 40 times the rule's 500 steps of 512 images, and longer ones were
        better still. Optimizer and decays remain the rule's; theirs are Adam and a cosine.
        """
        return self.with_steps(PATIENCE * self.steps).replace(mixup_alpha=1.0)

    def scaled_to_batch(self, batch: int, convention: str) -> "HyperRule":
        """Returns the rule for another batch size, with as many steps and another learning rate.

        Args:
            batch: The new number of images a step.
            convention: "linear" multiplies the rate by the ratio of the batches (Goyal et al.,
                2017), "sqrt" by its square root (Krizhevsky, 2014). The authors' own run of batch
                128 on CIFAR (rate 0.001, nearly the same accuracy) lies between the two.
        """
        factors = {"linear": batch / self.batch, "sqrt": (batch / self.batch) ** 0.5}
        if convention not in factors:
            raise ValueError(f'convention must be "linear" or "sqrt", got {convention!r}.')
        return self.replace(batch=batch, base_lr=self.base_lr * factors[convention])

    def learning_rate(self, step: int) -> float:
        """Returns the learning rate of a step, counted from 0.

        Raises:
            ValueError: If the step is not one of the rule's.
        """
        check_step(step, self.steps)
        return self.schedule().rate(step)

    def schedule(self) -> PiecewiseSchedule:
        """Returns the same learning rate as a Keras schedule, for an optimizer."""
        return PiecewiseSchedule.decaying_after(self.base_lr, self.warmup_steps, self.decay_steps)
