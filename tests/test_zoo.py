import http.server
import re
import threading

import keras
import numpy as np
import pytest
from conftest import named_weights

import bit_keras
from bit_keras.checkpoints import CheckpointError, DownloadError, architecture, open_npz, save_npz
from bit_keras.models.published import EMBEDDED, PUBLISHED
from bit_keras.models.spec_files import read_spec
from bit_keras.models.zoo import WEIGHTS


def weights(model):
    return {variable.path: variable.numpy() for variable in model.variables}


@pytest.fixture
def served(tmp_path, monkeypatch):
    """A folder that plays the authors' bucket, and an empty cache."""
    folder = tmp_path / "bucket"
    folder.mkdir()

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *arguments):
            super().__init__(*arguments, directory=folder)

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Quiet) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("BIT_KERAS_BASE_URL", f"http://127.0.0.1:{server.server_port}/")
        monkeypatch.setenv("BIT_KERAS_CACHE", str(tmp_path / "cache"))
        yield folder
        server.shutdown()


def test_every_published_name_is_known():
    assert len(bit_keras.list_models("BiT-[SM]-R*x[1-4]")) == 12
    assert len(bit_keras.list_models("*-ILSVRC2012")) == 6
    assert len(bit_keras.list_models("vtab/*")) == 285
    assert len(bit_keras.list_models("vtab/BiT-M-R152x4-run2-*")) == 19
    assert len(bit_keras.list_models("distill/*")) == 4
    assert "BiT-XS-R26x0.25" in bit_keras.list_models()
    assert len(bit_keras.list_models()) == 12 + 6 + 285 + 4 + 1


@pytest.mark.parametrize(
    ("name", "units", "width", "num_classes", "loss", "test_size", "test_resize"),
    [
        ("BiT-S-R101x3", (3, 4, 23, 3), 3, 1_000, "softmax", 224, 256),
        ("BiT-M-R152x4", (3, 8, 36, 3), 4, 21_843, "sigmoid", 224, 256),
        ("BiT-M-R50x1-ILSVRC2012", (3, 4, 6, 3), 1, 1_000, "softmax", 480, None),
        ("vtab/BiT-M-R50x3-run2-sun397", (3, 4, 6, 3), 3, 397, "softmax", 480, None),
        ("vtab/BiT-M-R50x3-run2-cifar100", (3, 4, 6, 3), 3, 100, "softmax", 128, None),
        ("distill/R50x1_160", (3, 4, 6, 3), 1, 1_000, "softmax", 160, None),
        ("distill/R152x2_T_384", (3, 8, 36, 3), 2, 1_000, "softmax", 384, None),
    ],
)
def test_the_table_says_what_a_published_model_is(
    name, units, width, num_classes, loss, test_size, test_resize
):
    published = PUBLISHED[name]
    assert (published.units, published.width, published.num_classes) == (units, width, num_classes)
    found = (published.loss, published.test_size, published.test_resize)
    assert found == (loss, test_size, test_resize)
    assert published.file == f"{name}.npz"
    assert (published.native_size, published.license) == (224, "Apache-2.0")


def test_names_say_the_sizes_in_the_table():
    for name, published in PUBLISHED.items():
        depth, width = map(int, re.search(r"R(\d+)x(\d)", name).groups())
        assert (3 * sum(published.units) + 2, published.width) == (depth, width)


def test_the_table_says_what_an_embedded_model_is():
    assert {path.stem for path in WEIGHTS.glob("*.npz")} == set(EMBEDDED)
    for name, embedded in EMBEDDED.items():
        shapes = open_npz(WEIGHTS / embedded.file).shapes
        assert architecture(shapes, name) == (embedded.units, embedded.width, embedded.num_classes)


def test_any_architecture_has_a_name(tmp_path):
    for name, units, width in (("R14x0.25", (1, 1, 1, 1), 0.25), ("R26x0.5", (2, 2, 2, 2), 0.5)):
        model = bit_keras.load(name, init="random", num_classes=3)
        assert (model.spec.units, model.spec.width, model.output_shape[-1]) == (units, width, 3)
    with pytest.raises(ValueError, match=r"R26x0.5 is an architecture without weights; give init="):
        bit_keras.load("R26x0.5")
    for wrong in ("R27x1", "R26x0.3"):
        with pytest.raises(ValueError, match=f"{wrong} is no architecture: expected R, a dep"):
            bit_keras.load(wrong, init="random", num_classes=3)
    with pytest.raises(ValueError, match=r"with init=.random. needs num_classes"):
        bit_keras.load("R26x0.5", init="random")


def test_a_published_model_is_fetched_once_and_answers_as_its_weights_say(served, images):
    published = named_weights(bit_keras.ResNetV2(50, 1, 1000, kernel_initializer="zeros"))
    save_npz(served / "BiT-S-R50x1.npz", weights(published))
    model = bit_keras.load("BiT-S-R50x1")
    np.testing.assert_array_equal(model(images), published(images))
    (served / "BiT-S-R50x1.npz").unlink()
    features = bit_keras.load("BiT-S-R50x1", num_classes=0)  # from the cache
    assert features(images).shape == (4, 2048)
    headed = bit_keras.load("BiT-S-R50x1", num_classes=37)
    np.testing.assert_array_equal(headed(images), np.zeros((4, 37)))
    pooled = published.get_layer("pooled").output
    expected = keras.Model(published.input, pooled)(images)
    np.testing.assert_array_equal(features(images), expected)


def test_another_architecture_under_a_published_name_is_refused(served, tiny):
    save_npz(served / "BiT-S-R101x1.npz", weights(tiny))
    with pytest.raises(CheckpointError, match=r"units .* were expected; delete it"):
        bit_keras.load("BiT-S-R101x1")


def test_a_name_that_is_not_served_names_its_url(served):
    with pytest.raises(DownloadError, match=r"vtab/BiT-M-R50x1-run0-svhn\.npz"):
        bit_keras.load("vtab/BiT-M-R50x1-run0-svhn")


def test_numpy_integers_are_integers():
    labels = np.array([0, 1, 2])
    model = bit_keras.load("BiT-XS-R26x0.25", num_classes=labels.max() + 1)
    assert model.output.shape == (None, 3)


def test_random_init_has_the_architecture_and_downloads_nothing(served, images):
    model = bit_keras.load("BiT-M-R101x1", num_classes=10, init="random")
    assert model.count_params() == 42_512_970
    assert np.any(model.get_layer("root_block").conv.kernel)


@pytest.mark.parametrize("depth", [(1, 1, 1, 1), (2, 1, 3, 1), (1, 2)])
@pytest.mark.parametrize("width", [0.25, 0.5, 1])
def test_the_architecture_is_read_off_the_arrays(depth, width, images, tmp_path):
    model = named_weights(bit_keras.ResNetV2(depth, width, 3))
    save_npz(tmp_path / "photos.npz", weights(model))
    twin = bit_keras.load(tmp_path / "photos.npz")
    np.testing.assert_array_equal(twin(images), model(images))
    assert twin.name == "photos"


def test_published_files_with_numbered_scopes_load(tiny, images, tmp_path):
    renamed = {
        f"resnet/{name.replace('standardized_conv2d', f'standardized_conv2d_{i + 1}')}": value
        for i, (name, value) in enumerate(weights(tiny).items())
    }
    np.savez(tmp_path / "x.npz", **renamed)
    np.testing.assert_array_equal(bit_keras.load(tmp_path / "x.npz")(images), tiny(images))


def test_the_embedded_model_is_small_and_sees(images):
    model = bit_keras.load("BiT-XS-R26x0.25")
    assert model(images).shape == (4, 512)
    assert WEIGHTS.joinpath("BiT-XS-R26x0.25.npz").stat().st_size <= 2e6
    assert WEIGHTS.joinpath("BiT-XS-R26x0.25.md").is_file()


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("BiT-M-R50x", "no model named 'BiT-M-R50x'.*BiT-M-R50x1"),
        (
            "BiT-M-R1",
            r"did you mean BiT-M-R101x1, BiT-M-R101x1-ILSVRC2012, BiT-M-R101x3, "
            r"BiT-M-R101x3-ILSVRC2012, BiT-M-R152x2, \.\.\.\?",
        ),
        ("bit-m-r101x3", r"did you mean"),
        ("BiT-L-R152x4", "JFT-300M.*never released"),
        ("weights/none.npz", "no file weights/none.npz"),
        ("x.h5", "no model named"),
    ],
)
def test_unknown_sources_are_answered_with_help(source, message):
    with pytest.raises(ValueError, match=message):
        bit_keras.load(source)


def test_the_beginning_of_one_name_stands_for_it(tmp_path, monkeypatch):
    assert bit_keras.load("BiT-XS").spec.name == "BiT-XS-R26x0.25"
    assert read_spec("BiT-XS").name == "BiT-XS-R26x0.25"
    assert read_spec("BiT-M-R50x1").name == "BiT-M-R50x1"  # though others begin so
    assert read_spec("BiT-M-R50") is None
    monkeypatch.chdir(tmp_path)
    (tmp_path / "BiT-XS").write_text("a file of the user")
    with pytest.raises(ValueError, match="cannot load BiT-XS; expected"):
        bit_keras.load("BiT-XS")


def test_wrong_files_are_answered_with_help(tiny, tmp_path):
    (tmp_path / "a.keras").write_bytes(b"PK nothing")
    with pytest.raises(CheckpointError, match=r"cannot read .* as a Keras model"):
        bit_keras.load(tmp_path / "a.keras")
    np.savez(tmp_path / "b.npz", weight=np.zeros(3, "float32"))
    with pytest.raises(CheckpointError):
        bit_keras.load(tmp_path / "b.npz")
    odd = {**weights(tiny), "root_block/standardized_conv2d/kernel": np.zeros(33, "float32")}
    save_npz(tmp_path / "d.npz", odd)
    with pytest.raises(CheckpointError, match="is not a BiT checkpoint"):
        bit_keras.load(tmp_path / "d.npz")
    arrays = weights(tiny)
    arrays["head/conv2d/bias"] = np.zeros(9, "float32")
    del arrays["block2/unit01/b/group_norm/gamma"]
    save_npz(tmp_path / "c.npz", arrays)
    with pytest.raises(CheckpointError, match=r"block2/unit01/b/group_norm/gamma") as error:
        bit_keras.load(tmp_path / "c.npz")
    assert "head/conv2d/bias" in str(error.value)
    with pytest.raises(ValueError, match=r"num_classes must be 0 \(features\) or more, got -1"):
        bit_keras.load("BiT-XS-R26x0.25", num_classes=-1)


def test_an_npz_export_has_the_names_that_timm_reads(tiny, tmp_path):
    bit_keras.export(tiny, tmp_path / "tiny.npz", format="npz")
    with np.load(tmp_path / "tiny.npz", allow_pickle=False) as file:
        assert file["resnet/root_block/standardized_conv2d/kernel"].shape == (7, 7, 3, 16)
        assert file["resnet/block1/unit01/a/proj/standardized_conv2d/kernel"].shape == (
            1,
            1,
            16,
            64,
        )
        assert file["resnet/head/conv2d/kernel"].shape == (1, 1, 512, 5)
        assert len(file.files) == len(tiny.variables)
    assert set(open_npz(tmp_path / "tiny.npz").shapes) == {v.path for v in tiny.variables}
