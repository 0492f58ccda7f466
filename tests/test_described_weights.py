"""A weight file that describes more than it holds is refused at once, before anything is built."""

import io
import json
import struct
import zipfile

import numpy as np
import pytest
from conftest import named_weights

import bit_keras
from bit_keras.checkpoints import CheckpointError, architecture, architecture_shapes, save_npz
from bit_keras.detection.opening import open_detector

ROOT = "root_block/standardized_conv2d/kernel"
HEAD = "head/conv2d/kernel"


@pytest.fixture(autouse=True)
def nothing_is_built(monkeypatch):
    """A network that a test builds would take minutes, or all memory."""

    def refuse(*_, **__):
        raise AssertionError("the network was built")

    monkeypatch.setattr("bit_keras.models.zoo.ResNetV2", refuse)


def body(*units, width=2 / 64):
    return architecture_shapes(units, width, 0)


def head(classes, channels):
    return {HEAD: (1, 1, channels, classes), "head/conv2d/bias": (classes,)}


NAMES = {
    "a unit of number 1,000,000,000": {**body(1), "block1/unit1000000000/a/group_norm/beta": (2,)},
    "1,001 units of single numbers": {
        ROOT: (7, 7, 3, 2),
        **{f"block1/unit{n:02d}/a/group_norm/beta": (1,) for n in range(1, 1_002)},
    },
    "40 blocks": {ROOT: (7, 7, 3, 2), **{f"block{n}/unit01/x": (1,) for n in range(1, 41)}},
    "a huge root": {**body(1), ROOT: (7, 7, 3, 20_000)},
    "a head of nothing": {**body(1), HEAD: (1, 1, 0, 2_000_000_000), "head/conv2d/bias": (3,)},
    "a head of another body": {**body(1), **head(100_000, 1)},
    "a number of 5,000 digits": {ROOT: (7, 7, 3, 2), f"block{'1' * 5000}/unit01/x": (1,)},
}


@pytest.mark.parametrize("kind", NAMES)
@pytest.mark.parametrize("options", [{}, {"num_classes": 3}, {"init": "random"}])
def test_a_wrong_architecture_is_refused_before_it_is_built(tmp_path, kind, options):
    if kind.startswith("a head") and "num_classes" in options:
        pytest.skip("its head is not read")
    arrays = {name: np.zeros(shape, "float32") for name, shape in NAMES[kind].items()}
    np.savez(tmp_path / "wrong.npz", **arrays)
    with pytest.raises(CheckpointError) as error:
        bit_keras.load(tmp_path / "wrong.npz", **options)
    assert len(str(error.value)) < 1_000


@pytest.mark.parametrize(("units", "width", "classes"), [((1, 2), 0.25, 3), ((3, 4, 6, 3), 1, 0)])
def test_the_shapes_of_an_architecture_are_those_of_its_variables(units, width, classes):
    from bit_keras.models.resnet_v2 import ResNetV2

    model = ResNetV2(units, width, classes, kernel_initializer="zeros")
    shapes = {variable.path: tuple(variable.shape) for variable in model.variables}
    assert architecture_shapes(units, width, classes) == shapes
    assert architecture(shapes, "it") == (units, width, classes)


def npy_header(shape):
    file = io.BytesIO()
    header = {"descr": "<f4", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, header)
    return file.getvalue()


def test_an_npz_whose_directory_lies_about_lengths_is_refused(tmp_path):
    """A head of 30 million classes, in an archive that says so and holds nothing of it."""
    shapes = {**body(1), **head(30_000_000, 8)}
    path = tmp_path / "lie.npz"
    with zipfile.ZipFile(path, "w") as archive:
        for name, shape in shapes.items():
            archive.writestr(f"{name}.npy", npy_header(shape))
        for member, shape in zip(archive.infolist(), shapes.values(), strict=True):
            member.file_size += 4 * int(np.prod(shape, dtype=object))
            member.compress_size = member.file_size
    with pytest.raises(CheckpointError, match=r"damaged"):
        bit_keras.load(path)


def test_a_zip_bomb_is_refused(tmp_path):
    path = tmp_path / "bomb.npz"
    save_npz(path, {"head/conv2d/bias": np.zeros(30_000_000, "float32")}, compressed=True)
    assert path.stat().st_size < 1_000_000
    with pytest.raises(CheckpointError, match=r"would unpack to 120,\d+,\d+ bytes from"):
        bit_keras.load(path)


def test_a_safetensors_header_that_describes_more_than_follows_is_refused(tmp_path):
    size = 30_000_000 * 8 * 4
    header = {"head.fc.weight": {"dtype": "F32", "shape": [30_000_000, 8, 1, 1]}}
    header["head.fc.weight"]["data_offsets"] = [0, size]
    header["stem.conv.weight"] = {"dtype": "F32", "shape": [2, 3, 7, 7]}
    header["stem.conv.weight"]["data_offsets"] = [size, size + 4 * 2 * 3 * 49]
    text = json.dumps(header).encode()
    (tmp_path / "x.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + bytes(1000))
    with pytest.raises(CheckpointError, match="damaged"):
        bit_keras.load(tmp_path / "x.safetensors")


@pytest.fixture(scope="module")
def small():
    from bit_keras.models.resnet_v2 import ResNetV2

    return named_weights(ResNetV2((1, 1), 2 / 64, 3, name="saved"))


@pytest.fixture(scope="module")
def exported(small, tmp_path_factory):
    path = tmp_path_factory.mktemp("exports") / "m"
    small.export(path, verbose=False)
    return path


def test_a_saved_model_whose_data_was_cut_short_is_refused(exported):
    data = exported / "variables/variables.data-00000-of-00001"
    data.write_bytes(data.read_bytes()[: data.stat().st_size // 2])
    with pytest.raises(CheckpointError, match="is damaged or was cut short"):
        bit_keras.load(exported)


@pytest.fixture(scope="module")
def saved(small, tmp_path_factory):
    path = tmp_path_factory.mktemp("keras") / "model.keras"
    small.save(path)
    return path


def changed(saved, path, change):
    """Writes a `.keras` file again with its configuration changed."""
    with zipfile.ZipFile(saved) as old, zipfile.ZipFile(path, "w") as new:
        for member in old.namelist():
            content = old.read(member)
            if member == "config.json":
                content = json.dumps(change(json.loads(content)))
            new.writestr(member, content)
    return path


def with_layer(name, **settings):
    def change(config):
        for layer in config["config"]["layers"]:
            if layer["name"] == name:
                layer["config"] |= settings
        return config

    return change


@pytest.mark.parametrize("opened", [bit_keras.load, open_detector])
@pytest.mark.parametrize(
    "change",
    [
        with_layer("block1", units=50_000),
        with_layer("block2", units=10**9),
        with_layer("block2", units="many"),
        with_layer("block2", filters=2_000_000),
        with_layer("root_block", filters=20_000),
        with_layer("head", num_classes=30_000_000),
        with_layer("head", num_classes=2_000_000_000),
        lambda config: [],
        lambda config: None,
        lambda config: {**config, "config": {**config["config"], "spec": "[1]"}},
    ],
)
def test_a_keras_file_that_describes_more_than_it_holds_is_refused(saved, tmp_path, change, opened):
    path = changed(saved, tmp_path / "wrong.keras", change)
    with pytest.raises(CheckpointError) as error:
        opened(path)
    assert len(str(error.value)) < 600


def test_a_keras_file_that_describes_what_it_holds_is_loaded(saved, images):
    assert bit_keras.load(saved)(images).shape == (4, 3)


def test_a_keras_file_whose_arrays_are_declared_and_not_held_is_refused(saved, tmp_path):
    import h5py

    weights = io.BytesIO()
    with h5py.File(weights, "w") as file:
        file.create_dataset("layers/head/conv2d/vars/0", (1, 1, 32, 10**7), "f4")
    path = tmp_path / "empty.keras"
    with zipfile.ZipFile(saved) as old, zipfile.ZipFile(path, "w") as new:
        new.writestr("metadata.json", old.read("metadata.json"))
        new.writestr("config.json", old.read("config.json"))
        new.writestr("model.weights.h5", weights.getvalue())
    with pytest.raises(CheckpointError, match=r"does not hold all of layers/head/conv2d/vars/0"):
        bit_keras.load(path)
