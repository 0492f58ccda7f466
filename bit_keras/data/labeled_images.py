"""Images with one class each, read one at a time by index: what every data source returns."""

import dataclasses
import zlib
from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf


class DataError(ValueError):
    """Images, labels or settings that cannot be trained on; the message says what to do."""


@dataclasses.dataclass(frozen=True, eq=False)
class LabeledImages:
    """Labels in memory, and a function that reads image number `i`.

    Attributes:
      name: what to call the set in messages and reports, such as "digits" or "photos/train".
      labels: int32 [N], in 0 .. num_classes - 1.
      class_names: one name a class.
      image_size: (height, width) typical of the set, the median where sizes differ.
      read: scalar int64 tensor, 0 .. N - 1, -> uint8 [height, width, 3]. It is traced by
        `tf.data`, so arrays it uses must be eager tensors: those are captured, where NumPy
        arrays would become graph constants, which end at 2 GB.
      fingerprint: a number that differs where the images do, to tell one run from another.
      augmentations: the random changes that leave the labels true, of "crop" and "flip".

    Raises:
      DataError: no images, a label outside the classes, labels that are not integers [N].
    """

    name: str
    labels: np.ndarray
    class_names: tuple[str, ...]
    image_size: tuple[int, int]
    read: Callable[[tf.Tensor], tf.Tensor]
    fingerprint: int = 0
    augmentations: frozenset[str] = frozenset({"crop", "flip"})

    def __post_init__(self):
        labels = np.asarray(self.labels)
        if labels.size == 0:
            raise DataError(f"{self.name} holds no images, and at least one is needed")
        if labels.ndim != 1 or labels.dtype.kind not in "iu":
            raise DataError(
                f"the labels of {self.name} must be integers of shape [N], got {labels.dtype} "
                f"of shape {list(labels.shape)}"
            )
        if labels.min() < 0 or labels.max() >= len(self.class_names):
            raise DataError(
                f"the labels of {self.name} must lie in 0 .. {len(self.class_names) - 1} for its "
                f"{len(self.class_names)} class names, got {labels.min()} .. {labels.max()}"
            )
        object.__setattr__(self, "labels", labels.astype(np.int32))
        object.__setattr__(self, "class_names", tuple(self.class_names))

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def num_classes(self) -> int:
        return len(self.class_names)

    def subset(self, indices: Sequence[int], name: str | None = None) -> "LabeledImages":
        """The images at `indices`, in that order, under a new name if given; copies no image."""
        indices = np.asarray(indices, np.int64)
        with tf.device("CPU:0"):
            table = tf.constant(indices)
        return dataclasses.replace(
            self,
            name=name or self.name,
            labels=self.labels[indices],
            read=lambda index: self.read(tf.gather(table, index)),
            fingerprint=zlib.crc32(indices.tobytes(), self.fingerprint),
        )

    def split(
        self, test_fraction: float = 0.2, seed: int = 0
    ) -> tuple["LabeledImages", "LabeledImages"]:
        """Splits every class at random into (train, test), both in the order of this set.

        Raises:
          DataError: a fraction outside (0, 1), or a class with fewer than 2 images, for each
            class keeps at least one image on each side.
        """
        if not 0 < test_fraction < 1:
            raise DataError(f"test_fraction must lie between 0 and 1, got {test_fraction}")
        random = np.random.RandomState(seed)
        in_test = np.zeros(len(self), bool)
        for label, class_name in enumerate(self.class_names):
            members = np.flatnonzero(self.labels == label)
            if len(members) < 2:
                raise DataError(
                    f"class {class_name!r} of {self.name} has {len(members)} images, and a split "
                    "into training and test images needs 2 or more: add images or drop the class"
                )
            num_test = np.clip(round(test_fraction * len(members)), 1, len(members) - 1)
            in_test[random.choice(members, num_test, replace=False)] = True
        return (
            self.subset(np.flatnonzero(~in_test), f"{self.name}/train"),
            self.subset(np.flatnonzero(in_test), f"{self.name}/test"),
        )

    def few_shot(self, examples_per_class: int, seed: int = 0) -> "LabeledImages":
        """`examples_per_class` images of every class, class by class.

        The same seed picks the same images as the reference code: NumPy's legacy generator,
        asked once a class, in the order of the classes, over the class's indices in the order
        of the data set (google-research/big_transfer).

        Raises:
          DataError: a class has fewer images than asked.
        """
        return self.subset(self._few_shot_indices(examples_per_class, seed))

    def split_few_shot(
        self, examples_per_class: int, seed: int = 0
    ) -> tuple["LabeledImages", "LabeledImages"]:
        """(the images `few_shot` picks, all the others in their order).

        Raises:
          DataError: a class has fewer images than asked, or no image is left over.
        """
        sample = self._few_shot_indices(examples_per_class, seed)
        others = np.setdiff1d(np.arange(len(self)), sample)
        if not others.size:
            raise DataError(
                f"{examples_per_class} images of each class are all that {self.name} has, so none "
                "is left to test on; ask for fewer"
            )
        return (
            self.subset(sample, f"{self.name}/train"),
            self.subset(others, f"{self.name}/test"),
        )

    def _few_shot_indices(self, examples_per_class, seed):
        if examples_per_class < 1:
            raise DataError(f"examples_per_class must be 1 or more, got {examples_per_class}")
        random = np.random.RandomState(seed)
        indices = []
        for label, class_name in enumerate(self.class_names):
            members = np.flatnonzero(self.labels == label)
            if len(members) < examples_per_class:
                raise DataError(
                    f"class {class_name!r} of {self.name} has {len(members)} images, fewer than "
                    f"the {examples_per_class} examples a class asked for: ask for fewer or add "
                    "images"
                )
            indices.extend(random.choice(members, examples_per_class, replace=False))
        return np.array(indices)
