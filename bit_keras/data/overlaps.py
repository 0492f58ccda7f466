"""Images on both sides of a split: equal files, and pictures that look alike."""

import concurrent.futures
import contextlib
import dataclasses
import hashlib
import os
import pathlib
from collections.abc import Sequence

import numpy as np
import tqdm

from .labeled_images import LabeledImages
from .sources.pillow_images import open_image

_ALIKE = 4  # of the 64 bits of two perceptual hashes, how many may differ
_MOST = 20_000  # images that are looked at: some milliseconds each
_SIDE = 64  # pixels that a JPEG is decoded to at least, of which the hash takes 32


@dataclasses.dataclass(frozen=True)
class Overlap:
    """Pairs (a file to train on, a file to test on).

    Attributes:
        equal: Files of the same content.
        alike: Others that look the same: scaled, saved anew, or the next photo of a burst. None if
            there were too many images to look.
    """

    equal: Sequence[tuple[str, str]]
    alike: Sequence[tuple[str, str]] | None

    def __bool__(self):
        return bool(self.equal or self.alike)

    def __str__(self):
        lines = []
        for pairs, what in (
            (self.equal, "are also among those to train on, byte by byte"),
            (self.alike or (), "look like one to train on"),
        ):
            if pairs:
                shown = ", ".join(f"{test} and {train}" for train, test in pairs[:3])
                more = f", and {len(pairs) - 3:,} more" if len(pairs) > 3 else ""
                lines.append(f"Images to test on that {what}: {len(pairs):,} ({shown}{more}).")
        if lines:
            lines.append(
                "Results on them say little; remove them from one side, or keep what belongs "
                "together on one (group_by, --group_by)."
            )
        return "\n".join(lines)


def overlap(train: LabeledImages, test: LabeledImages) -> Overlap:
    """Finds images to test on that are among those to train on; each is named once.

    Equal content is found by a hash of the bytes, likeness by the perceptual hash of the package
    ImageHash (DCT, 64 bits), of which 4 bits may differ. Sets that are not of files have none.
    """
    if train.files is None or test.files is None:
        return Overlap((), ())
    equal = _equal(train.files, test.files)
    if len(train) + len(test) > _MOST:
        return Overlap(equal, None)
    known = {file for _, file in equal}
    others = [file for file in test.files if file not in known]
    return Overlap(equal, _alike(train.files, others))


def _equal(train, test):
    sizes = {}
    for file in train:
        sizes.setdefault(os.path.getsize(file), []).append(file)
    found, digests = [], {}
    for file in test:
        size = os.path.getsize(file)
        if size in sizes:  # only then files are read
            if size not in digests:
                digests[size] = {_digest(one): one for one in sizes[size]}
            if same := digests[size].get(_digest(file)):
                found.append((same, file))
    return found


def _digest(file):
    return hashlib.blake2b(pathlib.Path(file).read_bytes()).digest()


def _alike(train, test):
    if not len(test):
        return []
    of_train, of_test = _hashes(train), _hashes(test)
    found = []
    for file, own in zip(test, of_test, strict=True):
        apart = np.bitwise_count(of_train ^ own)
        if apart.min() <= _ALIKE:
            found.append((train[apart.argmin()], file))
    return found


def _hashes(files):
    """uint64 [N]."""
    with (
        concurrent.futures.ThreadPoolExecutor() as threads,
        contextlib.closing(threads.map(_perceptual_hash, files)) as hashes,  # no wait after Ctrl-C
    ):
        shown = tqdm.tqdm(hashes, "Comparing images", len(files), unit=" images", delay=2)
        return np.array([*shown], np.uint64)


def _perceptual_hash(file):
    import imagehash

    with open_image(file) as image:
        image.draft("L", (_SIDE, _SIDE))
        bits = imagehash.phash(image.convert("L")).hash
    return int.from_bytes(np.packbits(bits).tobytes(), "big")
