"""BiT-HyperRule: every setting of a fine-tuning from the number and the size of its images.

The paper (Kolesnikov et al., 2020, https://arxiv.org/abs/1912.11370, section 3.3) and the code that
was released with it differ in the schedule, the resolution and mixup's reach; both are here.
"""

import dataclasses
import math
from typing import TYPE_CHECKING, Any

from .settings import PATIENCE, check_number, check_settings, check_step

if TYPE_CHECKING:
    from .schedule import PiecewiseSchedule

_RELEASE = (  # for fewer examples than the first: steps, warm-up, decays and mixup's alpha
    (20_000, 500, 100, (200, 300, 400), 0.0),
    (500_000, 10_000, 500, (3_000, 6_000, 9_000), 0.1),
    (math.inf, 20_000, 500, (6_000, 12_000, 18_000), 0.1),
)
MIXES = ("mixup", "cutmix", "both", "none")
_MIXUP_ALPHA = 0.1  # the rule's own, for large sets
_CUTMIX_ALPHA = 1.0  # Yun et al., 2019: the share of the box is uniform in [0, 1]


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
        cutmix_alpha: The same of the box that CutMix pastes, for its share of the image; 0 for no
            CutMix. If both are above 0, each batch has one of the two at random.
    """

    steps: int
    batch: int
    base_lr: float
    warmup_steps: int
    decay_steps: tuple[int, ...]
    resize: int
    crop: int
    mixup_alpha: float
    cutmix_alpha: float = 0.0

    def __post_init__(self):
        object.__setattr__(self, "decay_steps", tuple(self.decay_steps))
        least = {"steps": 1, "batch": 1, "warmup_steps": 0, "crop": 32}
        check_settings(self, **least, resize=1, mixup_alpha=0, cutmix_alpha=0)
        for step in self.decay_steps:
            check_number("steps", step, 0)
        if self.resize < self.crop:
            raise ValueError(
                f"resize must be at least the crop, {self.crop} pixels, got {self.resize!r}."
            )

    @classmethod
    def release(cls, num_examples: int, image_size: tuple[int, int]) -> "HyperRule":
        """The rule as the released code has it.

        Args:
            num_examples: Number of training images.
            image_size: Height and width of a typical image, in pixels.
        """
        if num_examples < 1:
            raise ValueError(f"num_examples must be 1 or more, got {num_examples!r}.")
        steps, warmup_steps, decay_steps, mixup_alpha = next(
            settings for limit, *settings in _RELEASE if num_examples < limit
        )
        height, width = image_size
        resize, crop = (160, 128) if height * width < 96 * 96 else (512, 480)
        batch, base_lr = 512, 0.003
        return cls(steps, batch, base_lr, warmup_steps, decay_steps, resize, crop, mixup_alpha)

    @classmethod
    def paper(
        cls, num_examples: int, image_size: tuple[int, int], *, largest_model: bool = False
    ) -> "HyperRule":
        """The rule as the paper's section 3.3 has it: no warm-up, decays at 30, 60 and 90 %.

        Args:
            num_examples, image_size: As in `release`.
            largest_model: True for R152x4, which the paper gives larger images.
        """
        rule = cls.release(num_examples, image_size)
        height, width = image_size
        if height * width <= 96 * 96:
            resize, crop = 160, 128
        else:
            resize, crop = (512, 480) if largest_model else (448, 384)
        decay_steps = tuple(rule.steps * percent // 100 for percent in (30, 60, 90))
        return rule.replace(warmup_steps=0, decay_steps=decay_steps, resize=resize, crop=crop)

    def replace(self, **changes: Any) -> "HyperRule":
        """Returns a copy with some settings changed, as `dataclasses.replace`."""
        return dataclasses.replace(self, **changes)

    def with_mix(self, mix: str) -> "HyperRule":
        """Returns the rule with other mixtures of images.

        Args:
            mix: "mixup", "cutmix", "both" (one of the two at random for each batch) or "none". An
                alpha above 0 stays if it is still used; otherwise mixup's is 0.1, as for large
                sets, and CutMix's is 1, as in its paper.
        """
        if mix not in MIXES:
            raise ValueError(f"mix must be one of {', '.join(MIXES)}, got {mix!r}.")
        mixup, cutmix = mix in ("mixup", "both"), mix in ("cutmix", "both")
        return self.replace(
            mixup_alpha=(self.mixup_alpha or _MIXUP_ALPHA) * mixup,
            cutmix_alpha=(self.cutmix_alpha or _CUTMIX_ALPHA) * cutmix,
        )

    def with_steps(self, steps: int) -> "HyperRule":
        """Returns the same schedule stretched or shortened to another number of steps."""
        check_number("steps", steps, 1)
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

    def settings(self) -> dict[str, Any]:
        """Returns all settings, for a run's `config.json`."""
        settings = dataclasses.asdict(self)
        if not self.cutmix_alpha:  # unknown to older versions, whose runs can still be gone on with
            del settings["cutmix_alpha"]
        return settings

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
        """Returns the learning rate of a step from 0 to steps - 1; raises ValueError for others."""
        check_step(step, self.steps)
        return self.schedule().rate(step)

    def schedule(self) -> "PiecewiseSchedule":
        """Returns the same learning rate as a Keras schedule, for an optimizer."""
        from .schedule import PiecewiseSchedule  # imports Keras, which --help should not

        return PiecewiseSchedule.decaying_after(self.base_lr, self.warmup_steps, self.decay_steps)
