"""Characters of many scripts, rendered from the fonts of a folder: images to pre-train on.

No picture is of a digit: number characters of every script, characters that decompose into a
digit and pictures that their font also uses for one of 0 to 9 are all left out, so that a model
trained on glyphs has seen no digits when it is tested on them.

    coverage = read_coverage(find_fonts())
    images, labels, class_names = render(coverage, choose_characters(coverage))
    batches = glyph_batches(images, labels, num_classes=len(class_names), batch=128, seed=0)
"""

import functools
import itertools
import multiprocessing
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import tensorflow as tf
from glyph_drawing import draw_font

from bit_keras.data import DataError
from bit_keras.data.pipelines.order import random_keys, shuffled_index

SYMBOLS = "!#$%&()*+/<=>?@[]^{}~£¥§¶÷€"
# Letters by category that are digits by shape, such as Latin letter two with stroke or tone five.
DIGIT_NAME = re.compile(
    r"\b(DIGIT|NUMBER|NUMERAL|ZERO|ONE|TWO|THREE|FOUR|FIVE|SIX|SEVEN|EIGHT|NINE)\b"
)
# Sides through which an image may pass; half of them are as coarse as a scan of a pen stroke.
SIDES = (7, 8, 8, 9, 10, 11, 12, 16, 32)


def find_fonts(folders: Iterable[str | Path] = ("/usr/share/fonts",)) -> list[Path]:
    """TrueType and OpenType files (`.ttf`, `.otf`, `.ttc`) anywhere below `folders`, sorted."""
    files = (path for folder in folders for path in Path(folder).rglob("*"))
    fonts = sorted(path for path in files if path.suffix.lower() in (".ttf", ".otf", ".ttc"))
    if not fonts:
        raise DataError(
            f"No .ttf, .otf or .ttc file was found below {[str(f) for f in folders]}: install "
            "fonts there or name another folder."
        )
    return fonts


def read_coverage(fonts: Iterable[Path]) -> dict[Path, frozenset[str]]:
    """The characters each font has by its own table; fonts without a readable one are left out."""
    try:
        from fontTools.ttLib import TTFont, TTLibError
    except ImportError as error:
        raise ImportError(
            "Reading the characters of a font needs fontTools: run `pip install fonttools`."
        ) from error
    coverage = {}
    for path in fonts:
        try:
            with TTFont(path, fontNumber=0, lazy=True) as font:
                code_points = font.getBestCmap() or ()  # None: a symbol font
        except (TTLibError, KeyError, AssertionError):
            continue
        coverage[path] = frozenset(map(chr, code_points))
    return coverage


def choose_characters(
    coverage: Mapping[Path, frozenset[str]], *, min_fonts: int = 8, max_per_script: int = 300
) -> list[str]:
    """Letters of any script and a few symbols that at least `min_fonts` fonts have, sorted.

    Letters with a diacritic and compatibility forms are left out (only a character that is its own
    NFKD form counts, or a Hangul syllable), and so is everything that means a number. Of a script
    with more than `max_per_script` characters, those in the most fonts are taken.
    """
    counts = Counter(itertools.chain.from_iterable(coverage.values()))
    scripts = defaultdict(list)
    for character, fonts in counts.items():
        if fonts >= min_fonts and _is_glyph(character):
            scripts[unicodedata.name(character).split()[0]].append(character)
    chosen = []
    for characters in scripts.values():
        chosen += sorted(characters, key=lambda c: (-counts[c], c))[:max_per_script]
    return sorted(chosen)


def _is_glyph(character: str) -> bool:
    if character in SYMBOLS:
        return True
    name = unicodedata.name(character, "")
    return (
        unicodedata.category(character) in ("Lu", "Ll", "Lo")
        and unicodedata.numeric(character, None) is None
        and not DIGIT_NAME.search(name)
        and (
            unicodedata.normalize("NFKD", character) == character
            or name.startswith("HANGUL SYLLABLE")
        )
    )


def render(
    coverage: Mapping[Path, frozenset[str]],
    characters: Sequence[str],
    *,
    size: int = 48,
    fonts_per_class: int = 100,
    seed: int = 0,
    workers: int = 2,
) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Pictures of `characters` in the fonts that have them.

    A class's fonts are taken in turn from each folder, in an order drawn from `seed`, so that a
    large family does not crowd out the single handwriting. Empty glyphs, the font's box for a
    missing character, pictures its font also uses for a digit, and repeated pictures are skipped.
    Of two characters that half of their fonts draw alike (Latin A, Greek Alpha), the first stays.
    The drawing processes import the main script, which must guard its work with
    `if __name__ == "__main__":`.

    Returns:
        `(images, labels, class_names)`: uint8 `[N, size, size]` with ink 255 on 0, each glyph
        centered with its longer side at 72 % of `size`; int32 `[N]`; the characters by label.

    Raises:
        DataError: if no font draws any of the characters.
    """
    from tqdm import tqdm

    wanted = _share_out(coverage, characters, fonts_per_class, seed)
    draw = functools.partial(draw_font, size=size)
    # Forking a process in which TensorFlow's threads run can hang.
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=spawn) as pool:
        fonts = pool.map(draw, wanted.items(), chunksize=4)
        drawn = list(tqdm(fonts, desc="Rendering", unit=" fonts", total=len(wanted)))
    twins = _twins(drawn)
    names = sorted({c for pictures in drawn for c in pictures} - twins)
    label_of = {character: label for label, character in enumerate(names)}
    images, labels, seen = [], [], set()
    for pictures in drawn:
        for character, picture in pictures.items():
            if character in label_of and picture not in seen:
                seen.add(picture)
                images.append(np.frombuffer(picture, np.uint8).reshape(size, size))
                labels.append(label_of[character])
    if not images:
        raise DataError(
            f"No font draws any of the {len(characters)} characters: give fonts that have them."
        )
    return np.stack(images), np.array(labels, np.int32), names


def _share_out(coverage, characters, fonts_per_class, seed) -> dict[Path, list[str]]:
    """Up to `fonts_per_class` fonts for each character, as the characters of each font."""
    fonts = sorted(coverage)
    order = np.random.default_rng(seed).permutation(len(fonts))
    by_folder = defaultdict(list)
    for index in order:
        by_folder[fonts[index].parent].append(fonts[index])
    rounds = itertools.zip_longest(*by_folder.values())
    in_turn = [font for fonts in rounds for font in fonts if font is not None]
    wanted = defaultdict(list)
    for character in characters:
        having = (font for font in in_turn if character in coverage[font])
        for font in itertools.islice(having, fonts_per_class):
            wanted[font].append(character)
    return wanted


def _twins(drawn: list[dict[str, bytes]]) -> set[str]:
    """Characters that at least half of their fonts draw exactly like an earlier character."""
    fonts_of, alike = Counter(), Counter()
    for pictures in drawn:
        fonts_of.update(pictures.keys())
        by_picture = defaultdict(list)
        for character in sorted(pictures):
            by_picture[pictures[character]].append(character)
        for characters in by_picture.values():
            alike.update(characters[1:])
    return {c for c, fonts in alike.items() if 2 * fonts >= fonts_of[c]}


def glyph_batches(
    images: np.ndarray,
    labels: np.ndarray,
    *,
    num_classes: int,
    batch: int,
    size: int = 32,
    seed: int,
    start_step: int = 0,
) -> tf.data.Dataset:
    """Endless augmented batches, each a function of `(seed, step)` alone.

    Every epoch visits each glyph once in a new order. A picture is warped (affine and elastic), its
    strokes thinned or thickened, seen at a lower resolution, and changed in contrast, polarity,
    tint and noise; it is never mirrored.

    Args:
        images: uint8 `[N, side, side]`, ink 255 on 0, as `render` returns.
        labels: int `[N]`.
        num_classes: length of the one-hot labels.
        batch: examples in a batch.
        size: side of the pictures in a batch.
        seed: of the order and of every change.
        start_step: the first batch's step; `k` continues where `k` batches were taken.

    Returns:
        A dataset of `(float32 [batch, size, size, 3] in [0, 1], float32 [batch, num_classes])`.
    """
    images, labels = tf.constant(images), tf.constant(labels, tf.int32)
    resample = tf.constant(_resampling_matrices(size))
    order_key, change_key, _ = random_keys(seed, stream=1)

    def make(step: tf.Tensor, index: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        seeds = tf.random.split([change_key, step], 4)
        ink = tf.cast(tf.gather(images, index), tf.float32) / 255
        ink = _vary_strokes(ink, seeds[0])
        ink = _warp(ink, size, seeds[1])
        ink = _lower_resolution(ink, resample, seeds[2])
        return _expose(ink, seeds[3]), tf.one_hot(tf.gather(labels, index), num_classes)

    steps = tf.data.Dataset.counter(start_step, dtype=tf.int64)
    indices = (
        tf.data.Dataset.counter(start_step * batch, dtype=tf.int64)
        .map(lambda position: shuffled_index(position, len(images), order_key))
        .batch(batch, drop_remainder=True)
    )
    dataset = tf.data.Dataset.zip(steps, indices)
    return dataset.map(make, num_parallel_calls=tf.data.AUTOTUNE).prefetch(2)


def _vary_strokes(ink: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """Thin the strokes by up to 0.4 pixels a side, or thicken them by up to 2.5."""
    # Pooling is many times faster with the examples as channels.
    ink = tf.transpose(ink, [1, 2, 0])[tf.newaxis]
    widths = [-tf.nn.max_pool2d(-ink, 3, 1, "SAME"), ink]
    for _ in range(3):
        widths.append(tf.nn.max_pool2d(widths[-1], 3, 1, "SAME"))
    # A dense character would become a blob.
    most = tf.clip_by_value(3.5 - 14 * tf.reduce_mean(ink, axis=[0, 1, 2]), 0.3, 2.5)
    growth = tf.random.stateless_uniform([tf.shape(ink)[3]], seed) * (most + 0.4) - 0.4
    mixed = tf.add_n(
        [tf.nn.relu(1 - tf.abs(growth - level)) * w for level, w in enumerate(widths, start=-1)]
    )
    return tf.transpose(mixed[0], [2, 0, 1])


def _warp(ink: tf.Tensor, size: int, seed: tf.Tensor) -> tf.Tensor:
    """Rotate, shear, stretch, shift and bend, sampling `[B, side, side]` as `[B, size, size]`."""
    batch, side = tf.shape(ink)[0], ink.shape[1]
    seeds = tf.random.split(seed, 6)

    def uniform(which: int, low: float, high: float, *columns: int) -> tf.Tensor:
        return tf.random.stateless_uniform([batch, *columns], seeds[which], low, high)

    angle, shear = uniform(0, -0.26, 0.26), uniform(1, -0.3, 0.3)
    # A pen's digit fills its picture, a font's glyph 72 % of it.
    scale = tf.exp(uniform(2, np.log(0.9), np.log(1.35), 1) + uniform(3, -0.2, 0.2, 2))
    shift = uniform(4, -0.08, 0.08, 2)
    cos, sin = tf.cos(angle), tf.sin(angle)
    # From a point of the new picture to its source, both in [-0.5, 0.5] as (y, x).
    matrix = tf.reshape(tf.stack([cos, sin, shear * cos - sin, shear * sin + cos], 1), [-1, 2, 2])
    matrix /= scale[:, tf.newaxis]
    axis = (tf.range(size, dtype=tf.float32) + 0.5) / size - 0.5
    grid = tf.reshape(tf.stack(tf.meshgrid(axis, axis, indexing="ij"), -1), [1, -1, 2])
    bend = tf.random.stateless_normal([batch, 5, 5, 2], seeds[5], stddev=0.025)
    bend = tf.reshape(tf.image.resize(bend, [size, size], "bicubic"), [batch, -1, 2])
    source = tf.matmul(grid - shift[:, tf.newaxis], matrix) + bend
    # Bilinear sampling; a blank frame stands for everything outside the picture.
    ink = tf.reshape(tf.pad(ink, [[0, 0], [1, 2], [1, 2]]), [batch, -1])
    source = tf.clip_by_value((source + 0.5) * side + 0.5, 0.0, side + 1.0)
    corner = tf.floor(source)
    (y, x), start = tf.unstack(source - corner, axis=-1), tf.cast(corner, tf.int32)
    start = start[..., 0] * (side + 3) + start[..., 1]

    def pixel(offset: int) -> tf.Tensor:
        return tf.gather(ink, start + offset, batch_dims=1)

    upper = pixel(0) * (1 - x) + pixel(1) * x
    lower = pixel(side + 3) * (1 - x) + pixel(side + 4) * x
    return tf.reshape(upper * (1 - y) + lower * y, [batch, size, size])


def _resampling_matrices(size: int) -> np.ndarray:
    """For each of `SIDES`, the matrix that averages `size` pixels to it and interpolates back."""
    columns = tf.eye(size)[..., tf.newaxis]  # resizing is linear: its matrix is what it does to I

    def resize(pixels: tf.Tensor, side: int, method: str) -> tf.Tensor:
        return tf.image.resize(pixels, [side, size], method)

    down_and_up = (resize(resize(columns, side, "area"), size, "bilinear") for side in SIDES)
    return np.stack([matrix[..., 0].numpy() for matrix in down_and_up])


def _lower_resolution(ink: tf.Tensor, resample: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    choice = tf.random.stateless_uniform([tf.shape(ink)[0]], seed, 0, len(SIDES), tf.int32)
    rows = tf.gather(resample, choice)
    return tf.matmul(tf.matmul(rows, ink), rows, transpose_b=True)


def _expose(ink: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """Photometric changes: `[B, size, size]` of ink in [0, 1] to RGB in [0, 1]."""
    batch = tf.shape(ink)[0]
    seeds = tf.random.split(seed, 8)

    def uniform(which: int, low: float, high: float, *shape: int) -> tf.Tensor:
        shape = [batch, *(shape or (1, 1, 1))]
        return tf.random.stateless_uniform(shape, seeds[which], low, high)

    ink = tf.minimum(ink[..., tf.newaxis] * uniform(0, 0.9, 1.8), 1.0)
    paper = tf.nn.relu(uniform(1, -0.3, 0.2))  # pure black in most pictures
    tint = 1 + uniform(2, -0.1, 0.1, 1, 1, 3) * tf.round(uniform(3, 0.0, 1.0))
    picture = (paper + (uniform(4, 0.6, 1.0) - paper) * ink) * tint
    inverted = tf.cast(uniform(5, 0.0, 1.0) < 0.25, tf.float32)
    picture += inverted * (1 - 2 * picture)
    amount = tf.nn.relu(uniform(6, -0.08, 0.05))
    noise = tf.random.stateless_normal(tf.shape(ink), seeds[7])
    return tf.clip_by_value(picture + amount * noise, 0.0, 1.0)
