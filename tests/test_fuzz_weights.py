"""2,000 damaged files a reader of weights: weights or an error of ours, in little memory."""

import io
import json
import pathlib
import zipfile

import keras
import numpy as np
import pytest
from conftest import named_weights
from mutations import altered, damaged, few_or_many, fuzz, seeded

from bit_keras.checkpoints import (
    CheckpointError,
    architecture,
    architecture_shapes,
    check_names_and_shapes,
    open_npz,
    open_safetensors,
    open_saved_model,
    save_npz,
    save_transformers,
)
from bit_keras.layers import GroupNormalization
from bit_keras.models.blocks import Head
from bit_keras.models.keras_file import load_keras
from bit_keras.models.resnet_v2 import ResNetV2
from bit_keras.models.spec import ModelSpec, SpecifiedModel


@pytest.fixture(scope="module")
def model():
    return named_weights(ResNetV2((1, 1), 2 / 64, 3, name="small"))


@pytest.fixture(scope="module")
def arrays(model):
    return {variable.path: variable.numpy() for variable in model.variables}


def read(checkpoint, path):
    """Reads weights as `bit_keras.load`, which then builds the network of these shapes."""
    found = architecture(checkpoint.shapes, path)
    check_names_and_shapes(architecture_shapes(*found), checkpoint.shapes, str(path))
    for name, shape in checkpoint.shapes.items():
        assert checkpoint[name].shape == shape


def run(cases, path, contents, opened):
    """Opens every content in the place of a file; returns how many were taken for sound."""

    def write(random, case):
        return path.write_bytes(contents(random, case))

    return fuzz(cases, write, opened, CheckpointError)


@few_or_many
@pytest.mark.parametrize("compressed", [False, True])
def test_npz(arrays, tmp_path, compressed, cases):
    path = tmp_path / "x.npz"
    save_npz(path, arrays, compressed=compressed)
    whole = path.read_bytes()

    def content(random, case):
        return damaged(whole, random)

    sound = run(cases // 2, path, content, lambda: read(open_npz(path), path))
    assert sound < cases / 10  # only what lies outside the archive may change unseen


@few_or_many
def test_npz_whose_headers_are_altered(arrays, tmp_path, cases):
    """Archives that are whole, of arrays that are not: their checksums are right."""
    path = tmp_path / "x.npz"
    names = sorted(arrays)
    members = {}
    for name in names:
        file = io.BytesIO()
        np.save(file, arrays[name])
        members[name] = file.getvalue()

    def content(random, case):
        wrong, file = random.choice(names), io.BytesIO()
        with zipfile.ZipFile(file, "w") as archive:
            for name in names:
                member = members[name]
                if name == wrong:
                    member = damaged(member[:128], random) + member[128:]
                archive.writestr(f"resnet/{name}.npy", member)
        return file.getvalue()

    assert run(cases, path, content, lambda: read(open_npz(path), path)) < cases / 2


@few_or_many
def test_safetensors(tmp_path, cases):
    save_transformers(tmp_path, arrays_of((1, 1), 8 / 64), groups=2)
    path = tmp_path / "model.safetensors"
    whole = path.read_bytes()
    length = int.from_bytes(whole[:8], "little") + 8

    def content(random, case):
        if case % 2:
            return damaged(whole, random)
        header = json.dumps(altered(json.loads(whole[8:length]), random)).encode()
        return len(header).to_bytes(8, "little") + header + whole[length:]

    run(cases, path, content, lambda: read(open_safetensors(path), path))


def arrays_of(units, width):
    rng = np.random.default_rng(0)
    shapes = architecture_shapes(units, width, 3)
    return {name: rng.standard_normal(shape, np.float32) for name, shape in shapes.items()}


@few_or_many
@pytest.mark.parametrize("file", ["variables.index", "variables.data-00000-of-00001"])
def test_saved_model(model, tmp_path, file, cases):
    model.export(tmp_path / "m", verbose=False)
    path = tmp_path / "m/variables" / file
    whole = path.read_bytes()

    def content(random, case):
        return damaged(whole, random)

    run(cases // 2, path, content, lambda: read(open_saved_model(tmp_path / "m"), path))


@few_or_many
def test_keras(tmp_path, cases):
    """Half are archives that are whole, of another configuration or of damaged weights.

    Keras builds what passes all checks, so that the model is of as few layers as can be.
    """
    path = tmp_path / "x.keras"
    images = keras.Input((None, None, 3), name="images")
    normal = GroupNormalization(1, activation="relu", name="group_norm")(images)
    pooled = keras.layers.GlobalAveragePooling2D(name="pooled")(normal)
    logits = Head(3, name="head")(pooled)
    SpecifiedModel(images, logits, name="small", spec=ModelSpec(num_classes=3)).save(path)
    whole = path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    configuration = json.loads(members["config.json"])

    def content(random, case):
        if case % 2:
            return damaged(whole, random)
        changed = {"config.json": json.dumps(altered(configuration, random)).encode()}
        if case % 4:
            changed = {"model.weights.h5": damaged(members["model.weights.h5"], random)}
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w") as archive:
            for name, member in (members | changed).items():
                archive.writestr(name, member)
        return file.getvalue()

    run(cases, path, content, lambda: load_keras(path))


def test_facts_of_models():
    facts = json.loads(ModelSpec(name="x", units=(1, 1), width=0.25, num_classes=3).to_json())
    for case in range(2_000):
        random = seeded(case)
        text = json.dumps(altered(facts, random)).encode()
        try:
            ModelSpec.from_json(damaged(text, random) if case % 2 else text)
        except (ValueError, UnicodeError):
            continue


def test_the_files_that_come_with_the_package_are_sound():
    folder = pathlib.Path(__file__).parents[1] / "bit_keras/weights"
    for path in folder.glob("*.npz"):
        read(open_npz(path), path)
