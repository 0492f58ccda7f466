"""Models in files: `.keras` archives and SavedModels, cut short or with what must never run."""

import io
import json
import os
import shutil
import zipfile

import numpy as np

from corpus.weights import (
    CANARY,
    CLASSES,
    NPZ,
    SAFETENSORS,
    Weights,
    arrays,
    as_pickle,
    cut,
    of_bytes,
)


def _keras(change=None, **members):
    """Archives whose configuration or members are others."""

    def write(path, sound):
        with zipfile.ZipFile(sound) as old, zipfile.ZipFile(path, "w") as new:
            for name in old.namelist():
                content = old.read(name)
                if change and name == "config.json":
                    content = json.dumps(change(json.loads(content), path))
                new.writestr(name, members.get(name.replace(".", "_"), content))
            for name in {*members} - {n.replace(".", "_") for n in old.namelist()}:
                new.writestr(name, members[name])

    return write


def _with_layer(kind, module, **settings):
    """A configuration in which a layer is another."""

    def change(config, path):
        layer = next(x for x in config["config"]["layers"] if x["name"] == "rescale")
        layer |= {"class_name": kind, "module": module, "registered_name": None}
        layer["config"] = {"name": "rescale", **settings, "canary": os.fspath(path.parent / CANARY)}
        if kind == "Lambda":
            layer["config"].pop("canary")
        return config

    return change


def _code(path):
    """What a Lambda layer keeps of a function that makes a file."""
    import base64
    import marshal

    code = compile(f"lambda x: (open({os.fspath(path)!r}, 'w'), x)[1]", "x", "eval")
    function = next(part for part in code.co_consts if hasattr(part, "co_code"))
    return base64.b64encode(marshal.dumps(function)).decode()


def _lambda(config, path):
    value = {"code": _code(path.parent / CANARY), "defaults": None, "closure": None}
    function = {"class_name": "__lambda__", "config": value}
    return _with_layer("Lambda", "keras.layers", function=function)(config, path)


def _function(module, name):
    def change(config, path):
        layer = next(x for x in config["config"]["layers"] if x["name"] == "relu")
        layer["class_name"] = "Activation"
        function = {"class_name": "function", "module": module, "config": name}
        layer["config"] = {"name": "relu", "activation": {**function, "registered_name": name}}
        return config

    return change


def _huge_header(path, sound):
    """Weights whose first object tells that its header has 3 GB, which HDF5 would take."""
    import h5py

    file = io.BytesIO()
    with h5py.File(file, "w", libver="earliest") as weights:
        weights["x"] = np.ones(3, "f4")
    content = bytearray(file.getvalue())
    place = int.from_bytes(content[64:72], "little") + 8
    content[place : place + 4] = (3_000_000_000).to_bytes(4, "little")
    _keras(model_weights_h5=bytes(content))(path, sound)


def _nan_keras(path, sound):
    import keras

    model = keras.models.load_model(sound)
    model.get_layer("head").conv.bias.assign([1, np.nan, 2])
    model.save(path)


def _keras_bomb(path, sound):
    with zipfile.ZipFile(sound) as old, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            content = old.read(name)
            new.writestr(name, content + bytes(80_000_000) * (name == "config.json"))


KERAS = {
    "sound.keras": Weights(_keras(), ""),
    "lambda.keras": Weights(_keras(_lambda), "which can run code that comes with a file"),
    "graph.keras": Weights(
        _keras(_with_layer("TFSMLayer", "keras.layers", filepath="x")), "TFSMLayer.*can run code"
    ),
    "download.keras": Weights(
        _keras(_function("keras.utils", "get_file")), "get_file.*can run code"
    ),
    "unsafe.keras": Weights(
        _keras(_function("keras.config", "enable_unsafe_deserialization")), "can run code"
    ),
    "system.keras": Weights(_keras(_function("os", "system")), "cannot read"),
    "class.keras": Weights(
        _keras(_with_layer("Popen", "subprocess", args=["touch", CANARY])), "cannot read"
    ),
    "assets.keras": Weights(_keras(**{f"assets/../../{CANARY}": b"x"}), "which no model of images"),
    "huge_header.keras": Weights(_huge_header, "cannot read"),
    "nan.keras": Weights(_nan_keras, "numbers that are not finite"),
    "bomb.keras": Weights(_keras_bomb, "would unpack to"),
    "null.keras": Weights(_keras(lambda config, path: None), "damaged"),
    "nested.keras": Weights(_keras(config_json=b"[" * 100_000), "damaged"),
    "weights.keras": Weights(_keras(model_weights_h5=b"no weights"), "cannot read"),
    "pickle.keras": Weights(as_pickle, "cannot read"),
    "empty.keras": Weights(of_bytes(b""), "cannot read"),
    **{f"cut{n}.keras": Weights(cut(n), "cannot read") for n in (1, 5, 9)},
}


def _saved_model(change):
    """Folders that `change` alters; it gets their path."""

    def write(path, sound):
        shutil.copytree(sound, path)
        change(path)

    return write


def _shorter(name, parts=5):
    def change(path):
        content = (path / name).read_bytes()
        (path / name).write_bytes(content[: len(content) * parts // 10])

    return change


def _writing(path, sound):
    """One whose graph writes a file when it is loaded, and when it is called."""
    import tensorflow as tf

    canary = os.fspath(path.parent / CANARY)
    module = tf.saved_model.load(sound)

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="encoded")])
    def serve_encoded(encoded):
        with tf.control_dependencies([tf.io.write_file(canary, "x")]):
            return {"logits": tf.zeros([tf.size(encoded), CLASSES])}

    signatures = {**module.signatures, "serve_encoded": serve_encoded}
    tf.saved_model.save(module, path, signatures=signatures)
    if os.path.exists(canary):
        os.remove(canary)


_DATA, _INDEX = "variables/variables.data-00000-of-00001", "variables/variables.index"
SAVED_MODELS = {
    "sound": Weights(_saved_model(lambda path: None), ""),
    "short_data": Weights(_saved_model(_shorter(_DATA)), "damaged or was cut short"),
    "short_index": Weights(_saved_model(_shorter(_INDEX)), "damaged or was cut short"),
    "no_variables": Weights(
        _saved_model(lambda path: shutil.rmtree(path / "variables")), "holds no variables"
    ),
    "no_graph": Weights(
        _saved_model(lambda path: os.remove(path / "saved_model.pb")), "holds neither"
    ),
    "writing": Weights(_writing, ""),  # its weights are data; predictions refuse its graph
}

FORMATS = {
    "npz": NPZ,
    "safetensors": SAFETENSORS,
    "keras": KERAS,
    "saved_model": SAVED_MODELS,
}


def sound_weights(folder):
    """Writes a sound model in each format; returns {format: path}."""
    import keras

    import bit_keras
    from bit_keras.checkpoints import save_npz, save_transformers

    keras.utils.set_random_seed(0)
    path = {kind: folder / f"sound.{kind}" for kind in ("npz", "keras")}
    path["saved_model"] = folder / "exported"
    save_npz(path["npz"], arrays())
    save_transformers(folder / "transformers", arrays(), groups=4)
    path["safetensors"] = folder / "transformers" / "model.safetensors"
    model = bit_keras.load(path["npz"])
    model.save(path["keras"])
    bit_keras.export(model, path["saved_model"], size=32)
    return path


def write_weights(folder):
    """Writes all below a folder; returns {path: Weights}."""
    folder.mkdir(parents=True)
    sound = sound_weights(folder)
    found = {}
    for kind, table in FORMATS.items():
        for name, one in table.items():
            path = folder / f"{kind}_{name}" / name
            path.parent.mkdir()
            one.write(path, sound[kind])
            found[path] = one
    return found
