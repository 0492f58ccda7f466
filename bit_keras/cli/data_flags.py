"""The flags that say how images are read."""

from typing import Any

from absl import flags

from ..choices import BAD_IMAGES
from . import usage

flags.disclaim_key_flags()  # as in `application`

DATA = "The images"  # their group in --help


def define_data_flags() -> None:
    """Defines the flags of the commands that train a classifier: how its images are read."""
    usage.group(DATA)
    flags.DEFINE_string(
        "validation",
        None,
        "Images to choose a model by: a part of the training images (0.1), or a data set; by "
        "default the folder validation (or val) beside train and test, if there is one.",
    )
    flags.DEFINE_string(
        "group_by",
        None,
        "A regular expression that finds in a path what must stay on one side of a split, such as "
        "a patient or a video; of a CSV file the column group does it too.",
    )
    define_bad_images()


def define_bad_images() -> None:
    """Defines the flag of the commands that read image files."""
    usage.group(DATA)
    flags.DEFINE_enum(
        "bad_images", "error", BAD_IMAGES, "Stop at images that cannot be read, or leave them out."
    )


def read_images(name: str, **few: Any) -> tuple[Any, Any, Any]:
    """Returns (train, test, their `data.overlap`) of a data set, as the flags say.

    Args:
        name: As `data.from_name` takes it.
        **few: Its `examples_per_class` and `examples_per_class_seed`.
    """
    from .. import data

    values = flags.FLAGS
    train, test = data.from_name(
        name, bad_images=values.bad_images, group_by=values.group_by, **few
    )
    train = data.with_validation(train, values.validation)
    return train, test, data.overlap(train, test)


def tested_on(train: Any, test: Any) -> str:
    """Returns how many images a training is tested on and chosen by, as text."""
    validation = train.validation
    chosen = f", chosen by {len(validation):,}" if validation else ""
    return f"tested on {len(test):,}{chosen}"
