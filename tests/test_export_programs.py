import pathlib
import subprocess
import sys
import tarfile

import numpy as np
import tensorflow as tf

import bit_keras

PROGRAMS = pathlib.Path(__file__).parent.parent / "export"


def test_tf_hub_archives_hold_modules_that_answer_as_the_model(tiny, images, tmp_path):
    bit_keras.export(tiny, tmp_path / "tiny.npz", format="npz")
    subprocess.run(
        [sys.executable, PROGRAMS / "make_tfhub_modules.py", "--models=tiny.npz", "--output=hub"],
        cwd=tmp_path,
        check=True,
    )
    features = bit_keras.load(tmp_path / "tiny.npz", num_classes=0)
    for name, model in (("feature_vector", features), ("classification", tiny)):
        with tarfile.open(tmp_path / f"hub/tiny.npz/{name}.tar.gz") as archive:
            assert "./saved_model.pb" in archive.getnames()
            archive.extractall(tmp_path / name, filter="data")
        module = tf.saved_model.load(str(tmp_path / name))
        np.testing.assert_allclose(module(images), model(images), atol=1e-4)
    assert len(list((tmp_path / "hub/tiny.npz").iterdir())) == 2
