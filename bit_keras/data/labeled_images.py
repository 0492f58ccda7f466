"""Images and their classes, read one by one by index: what every data source returns."""

import dataclasses
import warnings
import zlib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import tensorflow as tf

if TYPE_CHECKING:
    import scipy.sparse


class DataError(ValueError):
    """Images, labels or settings that cannot be used; the message says how to fix them."""

    def __init__(self, message: str):
        super().__init__(one_line(message))


def one_line(text: str) -> str:
    """Returns a text with escapes for line breaks and the like, which names of files may hold."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


@dataclasses.dataclass(frozen=True, eq=False)
class LabeledImages:
    """Labels in memory, and a function that reads image number `i`.

    Attributes:
        name: The set's name in messages and reports, such as "digits" or "photos/train".
        labels: int32 [N], in 0 .. num_classes - 1, the class of each image; or, where an image may
            have several classes or none, a bool `scipy.sparse.csr_array` [N, num_classes]. It may
            be given as any array or sparse array of zeros and ones.
        class_names: One name per class.
        image_size: The typical (height, width), the median where sizes differ.
        read: From a scalar int64 tensor in 0 .. N - 1 to uint8 [height, width, 3]. It is traced by
            `tf.data`, so arrays it uses must be eager tensors: those are captured, but NumPy
            arrays become graph constants, which are limited to 2 GB. AutoGraph does not translate
            it: a branch on a tensor is a `tf.cond`.
        fingerprint: A number that differs between sets of different images, to tell runs apart.
        augmentations: The random changes that keep labels correct, of "crop" and "flip".
        num_bytes: How many bytes one pass over the images reads from files or arrays.
        files: The images' paths, an array of objects [N], where they are files.
        skipped: Paths of images that were left out because they cannot be read.
        groups: What must not be torn apart by a split, such as patients: an array [N], or None.
        validation: Images of the same classes that the source has set aside to choose a model by.

    Raises:
        DataError: If there are no images, or labels have another shape, dtype or range.
    """

    name: str
    labels: "np.ndarray | scipy.sparse.csr_array"
    class_names: tuple[str, ...]
    image_size: tuple[int, int]
    read: Callable[[tf.Tensor], tf.Tensor]
    fingerprint: int = 0
    augmentations: frozenset[str] = frozenset({"crop", "flip"})
    num_bytes: int = 0
    files: np.ndarray | None = None
    skipped: tuple[str, ...] = ()
    groups: np.ndarray | None = None
    validation: "LabeledImages | None" = None

    def __post_init__(self):
        object.__setattr__(self, "class_names", tuple(self.class_names))
        if wrong := [name for name in self.class_names if "\n" in str(name)]:
            raise DataError(
                f"the class name {wrong[0]!r} of {self.name} has a line break, and files of class "
                "names have one a line; rename the class"
            )
        labels = self.labels if hasattr(self.labels, "tocsr") else np.asarray(self.labels)
        if 0 in labels.shape:
            missing = "images" if labels.shape[0] == 0 else "classes"
            raise DataError(f"{self.name} holds no {missing}, and needs some: add them")
        if not (
            (labels.ndim == 1 and labels.dtype.kind in "iu")
            or (labels.shape[1:] == (self.num_classes,) and labels.dtype.kind in "biuf")
        ):
            raise DataError(
                f"the labels of {self.name} must be integers of shape [N], or zeros and ones of "
                f"shape [N, {self.num_classes}] for its {self.num_classes} class names, got "
                f"{labels.dtype} of shape {list(labels.shape)}"
            )
        labels = labels.astype(np.int32) if labels.ndim == 1 else self._multi_hot(labels)
        object.__setattr__(self, "labels", labels)
        classes = self._classes
        if classes.size and not 0 <= classes.min() <= classes.max() < self.num_classes:
            raise DataError(
                f"the labels of {self.name} must lie in 0 .. {self.num_classes - 1} for its "
                f"{self.num_classes} class names, got {classes.min()} .. {classes.max()}"
            )

    def _multi_hot(self, labels):
        import scipy.sparse

        if labels.dtype == np.float16:  # not supported by scipy.sparse
            labels = labels.astype(np.float32)
        labels = scipy.sparse.csr_array(labels, copy=True)  # does not change the caller's
        labels.sum_duplicates()
        labels.eliminate_zeros()
        if not np.all(labels.data == 1):
            wrong = labels.data[labels.data != 1][0]
            raise DataError(f"the multi-hot labels of {self.name} must be 0 or 1, got {wrong}")
        return labels.astype(bool)

    @property
    def _classes(self):
        """The class of every label, image by image."""
        return self.labels.indices if self.multi_label else self.labels

    def __len__(self) -> int:
        return self.labels.shape[0]

    @property
    def multi_label(self) -> bool:
        """Whether an image may have several classes, or none."""
        return self.labels.ndim == 2

    @property
    def num_classes(self) -> int:
        """The number of class names."""
        return len(self.class_names)

    def targets(self) -> Callable[[tf.Tensor], tf.Tensor]:
        """A function for `tf.data`: scalar int64 index -> float32 [num_classes] of zeros and ones.

        Call it outside the function that `tf.data` traces: its tensors must be eager, as `read`'s.
        """
        with tf.device("CPU:0"):
            if not self.multi_label:
                labels = tf.constant(self.labels)
                return lambda index: tf.one_hot(tf.gather(labels, index), self.num_classes)
            starts, classes = tf.constant(self.labels.indptr), tf.constant(self.labels.indices)

        def target(index):
            present = classes[starts[index] : starts[index + 1], tf.newaxis]
            return tf.scatter_nd(present, tf.ones(tf.shape(present)[:1]), [self.num_classes])

        return target

    def description(self) -> dict:
        """What identifies the set in a run's settings."""
        parts = (self.labels.indptr, self.labels.indices) if self.multi_label else (self.labels,)
        return {
            "name": self.name,
            "num_images": len(self),
            "image_size": self.image_size,
            "fingerprint": zlib.crc32(b"".join(part.tobytes() for part in parts), self.fingerprint),
        }

    def subset(self, indices: Sequence[int], name: str | None = None) -> "LabeledImages":
        """The images at `indices`, in that order, under a new name if given; copies no pixels."""
        indices = np.asarray(indices, np.int64)
        with tf.device("CPU:0"):
            table = tf.constant(indices)
        return dataclasses.replace(
            self,
            name=name or self.name,
            labels=self.labels[indices],
            read=lambda index: self.read(tf.gather(table, index)),
            fingerprint=zlib.crc32(indices.tobytes(), self.fingerprint),
            num_bytes=self.num_bytes * len(indices) // len(self),  # an estimate
            files=None if self.files is None else self.files[indices],
            groups=None if self.groups is None else self.groups[indices],
        )

    def split(
        self, test_fraction: float = 0.2, seed: int = 0, second: str = "test"
    ) -> tuple["LabeledImages", "LabeledImages"]:
        """Splits every class at random into (train, test), both in the order of this set.

        Each class keeps at least one image on each side. Multi-label images are split as a whole,
        not class by class, but train has at least one image of every class that has images. Images
        of one of the `groups` stay on one side; classes and fraction are then met as well as
        scikit-learn's `StratifiedGroupKFold` can, or with several labels `GroupShuffleSplit`.

        Args:
            test_fraction: The part of the images to test on, between 0 and 1.
            seed: Of the choice.
            second: What to call the second part.

        Raises:
            DataError: If the fraction is not in (0, 1), a class has fewer than 2 images or lies in
                one group, or, for multi-label images, train needs every image as the first of a
                class.
        """
        if not 0 < test_fraction < 1:
            raise DataError(f"{second}_fraction must lie between 0 and 1, got {test_fraction}")
        draw_test = self._draw_multi_label_test if self.multi_label else self._draw_test_by_class
        if self.groups is not None:
            draw_test = self._draw_groups_to_test
        test = np.sort(draw_test(test_fraction, np.random.RandomState(seed)))
        parts = self._parts(np.setdiff1d(np.arange(len(self)), test), test, second)
        if self.groups is not None:
            check_every_class(
                parts[0], f"its images lie in groups of the {second} part: make groups smaller"
            )
        return parts

    def _draw_groups_to_test(self, test_fraction, random):
        import sklearn.model_selection

        number = len(set(self.groups.tolist()))
        if number < 2:
            raise DataError(
                f"all {len(self):,} images of {self.name} are in one group, and a split needs 2 or "
                "more: name smaller groups"
            )
        if self.multi_label:
            splitter = sklearn.model_selection.GroupShuffleSplit(1, test_size=test_fraction)
        else:
            folds = min(max(2, round(1 / test_fraction)), number)
            splitter = sklearn.model_selection.StratifiedGroupKFold(folds, shuffle=True)
        splitter.random_state = random
        labels = None if self.multi_label else self.labels
        with warnings.catch_warnings():  # of classes with fewer images than folds
            warnings.simplefilter("ignore")
            return next(splitter.split(np.zeros(len(self)), labels, self.groups.astype(str)))[1]

    def _draw_test_by_class(self, test_fraction, random):
        indices = []
        for label, class_name in enumerate(self.class_names):
            members = np.flatnonzero(self.labels == label)
            if len(members) < 2:
                raise DataError(
                    f"class {class_name!r} of {self.name} has {len(members)} images, and a split "
                    "into training and test images needs 2 or more: add images or drop the class"
                )
            num_test = np.clip(round(test_fraction * len(members)), 1, len(members) - 1)
            indices.extend(random.choice(members, num_test, replace=False))
        return np.array(indices)

    def _draw_multi_label_test(self, test_fraction, random):
        order = random.permutation(len(self))
        of_class = self.labels[order].tocsc()
        first = of_class.indices[of_class.indptr[:-1][np.diff(of_class.indptr) > 0]]
        spare = np.delete(order, first)  # train keeps the first image of each class
        if not spare.size:
            raise DataError(
                f"every image of {self.name} is needed to train on, as the first of a class, so "
                "none is left to test on: add images or drop classes"
            )
        return spare[: max(1, round(test_fraction * len(self)))]

    def few_shot(self, examples_per_class: int, seed: int = 0) -> "LabeledImages":
        """`examples_per_class` images of every class, class by class.

        The same seed picks the same images as the reference code (google-research/big_transfer):
        NumPy's legacy generator, called once per class, in the order of the classes, on the class's
        indices in the order of the data set.

        Raises:
            DataError: If a class has too few images, or the set is multi-label.
        """
        return self.subset(self.few_shot_indices(examples_per_class, seed))

    def split_few_shot(
        self, examples_per_class: int, seed: int = 0
    ) -> tuple["LabeledImages", "LabeledImages"]:
        """(The images that `few_shot` picks, all others in their order); raises as `few_shot`."""
        sample = self.few_shot_indices(examples_per_class, seed)
        others = np.setdiff1d(np.arange(len(self)), sample)
        if not others.size:
            raise DataError(
                f"{examples_per_class} images of each class are all that {self.name} has, so none "
                "is left to test on; ask for fewer"
            )
        return self._parts(sample, others)

    def _parts(self, train, test, second="test"):
        # Validation images are set aside from what is called train already.
        name = self.name if second == "test" else self.name.removesuffix("/train")
        return self.subset(train, f"{name}/train"), self.subset(test, f"{name}/{second}")

    def few_shot_indices(self, examples_per_class: int, seed: int = 0) -> np.ndarray:
        """The indices of the images that `few_shot` picks, int64; raises as `few_shot` does."""
        if self.multi_label:
            raise DataError(
                f"{examples_per_class} examples a class cannot be chosen from {self.name}, whose "
                "images may have several classes: train on all of it, or on a subset"
            )
        if examples_per_class < 1:
            raise DataError(f"examples_per_class must be 1 or more, got {examples_per_class}")
        random = np.random.RandomState(seed)
        indices = []
        for label, class_name in enumerate(self.class_names):
            members = np.flatnonzero(self.labels == label)
            if len(members) < examples_per_class:
                raise DataError(
                    f"class {class_name!r} of {self.name} has {len(members)} images, fewer than "
                    f"the {examples_per_class} examples asked for: ask for fewer or add images"
                )
            indices.extend(random.choice(members, examples_per_class, replace=False))
        return np.array(indices)


def check_every_class(train: LabeledImages, remedy: str) -> None:
    """Raises DataError if some classes have no training images; its message ends in `remedy`."""
    counts = np.bincount(train._classes, minlength=train.num_classes)
    missing = [repr(train.class_names[label]) for label in np.flatnonzero(counts == 0)]
    if missing:
        dots = ", ..." if len(missing) > 5 else ""
        raise DataError(
            f"{train.name} has no images of {len(missing)} of its {train.num_classes} classes "
            f"({', '.join(missing[:5])}{dots}); {remedy}"
        )
