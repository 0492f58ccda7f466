"""What several tests need: a small BiT with lively weights, and a quiet TensorFlow."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ["CUDA_VISIBLE_DEVICES"] = ""  # the same numbers on every machine
if workers := os.environ.get("PYTEST_XDIST_WORKER_COUNT"):  # or they wait for each other's threads
    share = max(1, (os.cpu_count() or 1) // int(workers))
    os.environ.setdefault("TF_NUM_INTRAOP_THREADS", str(share))
    os.environ.setdefault("OMP_NUM_THREADS", str(share))

import gc
import warnings

import numpy as np
import pytest
from named_weights import named_weights
from pictures import picture
from tensorflow.python.framework.func_graph import FuncGraph

import bit_keras
from bit_keras.files import lock, new_folder


def pytest_collection_modifyitems(items):
    """The longest files first, so that those who run in parallel end together."""
    longest = (
        *(
            "strategies",
            "documentation",
            "detector_resume",
            "backends",
            "fine_tuning",
            "export_programs",
            "spec",
        ),
        *("detector_export", "detector_memory", "studies", "pretraining", "consumers"),
        *("retinanet", "mask_rcnn_training", "few_shot", "evaluation", "mask_export", "vtab_suite"),
        *("distillation", "prediction", "detector", "detector_consumers"),
    )
    place = {f"test_{name}": number for number, name in enumerate(longest)}
    items.sort(key=lambda item: place.get(item.path.stem, len(longest)))


def pytest_collection_finish():
    """What was imported stays, so no collection of garbage need look at it."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000)


def graphs_of_training():
    """The number of graphs of training steps that are in memory."""
    gc.collect()
    graphs = [o for o in gc.get_objects() if type(o) is FuncGraph]
    return sum(graph.name in ("_run", "gradients") for graph in graphs)


def made_once(tmp_path_factory, name, make):
    """The folder that `make(folder)` fills: once, whichever of pytest's workers asks first."""
    root = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        root = root.parent
    with lock(root / f"{name}.lock", "Another worker makes what is needed."):
        if not (root / name).exists():
            with new_folder(root / name) as folder:
                make(folder)
    return root / name


@pytest.fixture(scope="session")
def tiny():
    """One unit a block, width 1/4, 5 classes. Tests must not train it."""
    return named_weights(bit_keras.ResNetV2((1, 1, 1, 1), 0.25, 5, name="tiny"))


@pytest.fixture
def images():
    return np.random.default_rng(0).uniform(size=(4, 48, 40, 3)).astype("float32")


@pytest.fixture
def folder(tmp_path):
    """Two classes of ten PNGs each; image i of class c is picture(seed=10 * c + i)."""
    root = tmp_path / "photos"
    for c, name in enumerate(["cat", "dog"]):
        (root / name).mkdir(parents=True)
        for i in range(10):
            picture(seed=10 * c + i).save(root / name / f"{i}.png")
    return root


@pytest.fixture(scope="session")
def tfds_dir(tmp_path_factory):
    """Data sets that TFDS itself has written: 40 and 10 PNGs of two sizes."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import tensorflow_datasets as tfds

    class TinyPictures(tfds.core.GeneratorBasedBuilder):
        VERSION = tfds.core.Version("1.0.0")

        def _info(self):
            features = {
                "image": tfds.features.Image(shape=(None, None, 3), encoding_format="png"),
                "label": tfds.features.ClassLabel(names=["even", "odd"]),
            }
            return tfds.core.DatasetInfo(
                builder=self, features=tfds.features.FeaturesDict(features)
            )

        def _split_generators(self, dl_manager):
            return {"train": self._generate_examples(40), "holdout": self._generate_examples(10)}

        def _generate_examples(self, count):
            for i in range(count):
                image = np.asarray(picture(6, 10 if i % 4 else 30, seed=i))
                yield i, {"image": image, "label": i % 2}

    class TinyScenes(TinyPictures):
        """Image i shows the divisors of i among 2, 3 and 5; the last two are of the class 7."""

        def _info(self):
            features = {
                "labels": tfds.features.Sequence(tfds.features.ClassLabel(names=[*"2357"])),
                "image": tfds.features.Image(shape=(None, None, 3), encoding_format="png"),
            }
            return tfds.core.DatasetInfo(
                builder=self, features=tfds.features.FeaturesDict(features)
            )

        def _generate_examples(self, count):
            for i, example in super()._generate_examples(count):
                shown = [c for c, n in enumerate([2, 3, 5]) if i % n == 0]
                labels = shown + [3] * (i >= count - 2)
                yield i, {"image": example["image"], "labels": labels}

    class TinyTrain(TinyPictures):
        def _split_generators(self, dl_manager):
            return {"train": self._generate_examples(40)}

    class TinyValidation(TinyPictures):
        def _split_generators(self, dl_manager):
            return {"train": self._generate_examples(40), "validation": self._generate_examples(8)}

    directory = tmp_path_factory.mktemp("tfds")
    three_files = tfds.download.DownloadConfig(num_shards=3)
    TinyPictures(data_dir=directory).download_and_prepare(download_config=three_files)
    for builder in (TinyScenes, TinyTrain, TinyValidation):
        builder(data_dir=directory).download_and_prepare()
    return directory
