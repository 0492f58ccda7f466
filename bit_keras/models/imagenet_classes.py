"""The classes of the published ILSVRC-2012 and ImageNet-21k models, as WordNet 3.0 has them.

The lists are not in the package: ILSVRC-2012's ids come with tensorflow_datasets, the others are
downloaded like weights.
"""

import collections
import dataclasses
import importlib.util
import logging
import pathlib
import re
from collections.abc import Sequence

from ..checkpoints import DownloadError, base_url, cache_dir, fetch

ILSVRC2012, IMAGENET21K = 1_000, 21_843  # classes
_TFDS_IDS = pathlib.Path("datasets", "imagenet2012", "labels.txt")


@dataclasses.dataclass(frozen=True)
class Synset:
    """A class: a sense that several nouns may share.

    Attributes:
        id: "n01440764", as in the names of ImageNet's files and folders.
        lemmas: Its nouns as WordNet writes them, ("tench", "Tinca_tinca"); empty if unknown.
    """

    id: str
    lemmas: tuple[str, ...] = ()

    @property
    def aliases(self) -> tuple[str, ...]:
        """Its id, its lemmas on one line, and each lemma; all with underscores, and with spaces."""
        names = (", ".join(self.lemmas), *self.lemmas) if self.lemmas else ()
        return tuple(dict.fromkeys((self.id, *names, *map(_spaced, names))))


def synsets(num_classes: int) -> tuple[Synset, ...] | None:
    """Returns the classes of published models of so many classes, in the models' order.

    The lists are those of ILSVRC-2012 (1,000) and ImageNet-21k (21,843); None for other numbers.
    They are downloaded at first and kept in the cache (`checkpoints.fetch`). Without a network the
    classes of ILSVRC-2012 have only their ids, and those of ImageNet-21k raise DownloadError, as
    does a file that is not the list it should be.
    """
    if num_classes == ILSVRC2012:
        ids = _ilsvrc2012_ids()
        try:
            path = _fetch("ilsvrc2012_wordnet_lemmas.txt")
        except DownloadError as error:
            logging.getLogger(__name__).warning(
                "the classes of ILSVRC-2012 are called by their WordNet ids: %s", error
            )
            return tuple(map(Synset, ids))
    elif num_classes == IMAGENET21K:
        path = _fetch("imagenet21k_wordnet_ids.txt")
        ids = _read_list(path, num_classes, r"n\d{8}", "WordNet ids such as n01440764")
        path = _fetch("imagenet21k_wordnet_lemmas.txt")
    else:
        return None
    lemmas = _read_list(path, num_classes, r"\S.*", "lemmas such as tench, Tinca_tinca")
    return tuple(Synset(i, tuple(line.split(", "))) for i, line in zip(ids, lemmas, strict=True))


def class_names(classes: Sequence[Synset]) -> list[str]:
    """Returns names for people, "tench" or, where several classes have it, "crane (n02012849)".

    Where lemmas are unknown it is the id.
    """
    names = [_spaced(synset.lemmas[0]) if synset.lemmas else synset.id for synset in classes]
    count = collections.Counter(names)
    return [
        name if count[name] == 1 else f"{name} ({synset.id})"
        for name, synset in zip(names, classes, strict=True)
    ]


def _spaced(lemma):
    return lemma.replace("_", " ")


def _fetch(name):
    return fetch(name, base_url=base_url(), cache_dir=cache_dir())


def _ilsvrc2012_ids():
    (package,) = importlib.util.find_spec("tensorflow_datasets").submodule_search_locations
    path = pathlib.Path(package, _TFDS_IDS)
    if path.is_file():  # saves the seconds that importing the package takes
        return path.read_text().split()
    import tensorflow_datasets as tfds

    return tfds.builder("imagenet2012").info.features["label"].names


def _read_list(path, count, pattern, what):
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    wrong = [line for line in lines if not re.fullmatch(pattern, line)]
    if wrong or len(lines) != count:
        example = f", {wrong[0][:40]!r} among them" if wrong else ""
        raise DownloadError(
            f"{path} must hold {count:,} {what}, one a line, got {len(lines):,} lines{example}; "
            "delete it to fetch it again"
        )
    return lines
