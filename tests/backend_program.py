"""bit_keras on another backend of Keras, in a process of its own, for test_backends.py.

backend_program.py FOLDER [all]    reads what test_backends.py gives in FOLDER, and writes
                                   found.npz, found.json and exports there; with "all" also what
                                   JAX takes minutes to compile
"""

import json
import pathlib
import sys

import keras
import numpy as np
from named_weights import named_weights

import bit_keras
from bit_keras.models.resnet_v2 import pyramid, with_head

SAVED = {"npz": "in.npz", "transformers": "in_transformers", "keras": "in.keras"}
WRITTEN = {"npz": "out.npz", "transformers": "out_transformers", "keras": "out.keras"}
POLICIES = ("float16", "bfloat16", "mixed_float16", "mixed_bfloat16", "float64")
ROOMS = ("classification", "detection", "reporting")
STAGES = ("root_block", "block1", "block2", "block3", "block4")


def array(tensor):
    return np.asarray(keras.ops.convert_to_numpy(tensor))


def small():
    # Zeros, for drawing what is overwritten next takes longer than all else.
    model = bit_keras.ResNetV2((1, 1, 1, 1), 0.25, 5, kernel_initializer="zeros", name="small")
    return named_weights(model)


def answers(model, images):
    return model.predict(images, verbose=0)


def weights_of(model):
    return np.concatenate([array(variable).ravel() for variable in model.variables])


def of_golden(size):
    images = np.random.default_rng(size).uniform(-1, 1, (2, size, size, 3)).astype("float32")
    model = named_weights(bit_keras.ResNetV2(50, 1, 10, kernel_initializer="zeros"))
    taps = [model.get_layer(name).output for name in (*STAGES, "pooled")]
    *maps, pooled, logits = keras.Model(model.input, [*taps, model.output]).predict(
        (images + 1) / 2, verbose=0
    )
    means = {f"tap{i}_mean": each.mean(axis=(1, 2))[:, :64] for i, each in enumerate(maps)}
    return model, {"golden_logits": logits, "golden_pooled": pooled[:, :256], **means}


def of_layers(x):
    conv, norm = bit_keras.StdConv2D(6, 3, padding="same"), bit_keras.GroupNormalization(4)
    conv.build(x.shape)
    conv.kernel.assign(np.linspace(3, 9, 3 * 3 * 16 * 6).reshape(3, 3, 16, 6) % 1.7)
    return {"conv": array(conv(x)), "norm": array(norm(x)), "norm_of_rows": array(norm(x[:, 0, 0]))}


def of_training(images, labels):
    model = small()
    rule = bit_keras.HyperRule(8, 4, 0.05, 3, (5, 6), 40, 32, 0.0)
    optimizer = keras.optimizers.SGD(rule.schedule(), momentum=0.9)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer, loss)
    options = {"batch_size": rule.batch, "epochs": 2, "shuffle": False, "verbose": 0}
    history = model.fit(images, labels, **options).history
    steps = np.arange(rule.steps)
    rates = [array(rule.schedule()(step)) for step in steps]
    assert rates == [np.float32(rule.learning_rate(step)) for step in steps.tolist()]
    return {"losses": history["loss"], "trained": answers(model, images)}


def of_policies(images):
    found = {}
    for policy in POLICIES:
        keras.config.set_dtype_policy(policy)
        try:
            model = small()
        finally:
            keras.config.set_dtype_policy("float32")
        found[policy] = model.predict(images, verbose=0)
        assert {str(variable.dtype) for variable in model.variables} == {"float32"}
    large = np.linspace(3e4, 6e4, 512, dtype="float16").reshape(1, 8, 8, 8)
    norm = bit_keras.GroupNormalization(4, dtype="mixed_float16")
    return {**found, "large_norm": array(norm(large))}


def refusal(function):
    """What the ValueError of a call says."""
    try:
        function()
    except ValueError as error:
        return str(error)
    return "nothing was refused"


def refusals(model):
    known = ("GroupNormalization", "HyperRule", "ResNetV2", "StdConv2D", "data", "export")
    known += ("list_models", "load")
    names = {name: getattr(bit_keras, name) for name in bit_keras.__all__ if name not in known}
    found = {f"bit_keras.{name}": refusal(each) for name, each in names.items()}
    for room in ROOMS:
        found[f"bit_keras.{room}"] = refusal(lambda room=room: getattr(bit_keras, room))
    found["bit_keras.training.RunOptions"] = refusal(lambda: bit_keras.training.RunOptions)
    for form in ("saved_model", "onnx"):
        found[form] = refusal(lambda form=form: bit_keras.export(model, "never", form))
    assert not pathlib.Path("never").exists()
    keras.config.set_image_data_format("channels_first")
    calls = {
        "load": lambda: bit_keras.load("BiT-XS-R26x0.25"),
        "ResNetV2": lambda: bit_keras.ResNetV2(norm="batch"),
        "with_head": lambda: with_head(model, 3),
        "GroupNormalization": bit_keras.GroupNormalization,
    }
    first = {name: refusal(call) for name, call in calls.items()}
    keras.config.set_image_data_format("channels_last")
    return {"needs_tensorflow": found, "channels_first": first}


def of_large_models(folder, model):
    """The published architecture, and files; each is proven at three sizes, on two models."""
    large, found = of_golden(64)
    bit_keras.export(large, folder / "out_timm", "timm")
    for form in ("transformers", "keras"):
        # Keras itself imports TensorFlow to save, where it is installed.
        assert form == "keras" or "tensorflow" not in sys.modules
        bit_keras.export(model, folder / WRITTEN[form], form)
    return found


def main(folder, everything=False):
    given = np.load(folder / "given.npz")
    images, labels = given["images"], given["labels"]
    embedded = bit_keras.load("BiT-XS-R26x0.25")
    model = small()
    found = {"embedded": answers(embedded, images)}
    maps = pyramid(model, ("P2", "P4")).predict(images, verbose=0)
    found |= {f"map_{level}": each for level, each in maps.items()}
    found["new_head"] = answers(with_head(model, 3), images)
    found |= of_layers(given["activations"])
    found |= of_training(images, labels)
    for form, name in SAVED.items():
        found[f"read_{form}"] = weights_of(bit_keras.load(folder / name))
    found |= of_policies(images)
    texts = {"backend": keras.config.backend(), **refusals(model)}
    bit_keras.export(model, folder / WRITTEN["npz"], "npz")
    if everything:
        found |= of_large_models(folder, model)
    assert everything or "tensorflow" not in sys.modules
    texts["proof"] = json.loads((folder / "out.npz.proof.json").read_text())
    np.savez(folder / "found.npz", **found)
    (folder / "found.json").write_text(json.dumps(texts))


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]), everything="all" in sys.argv)
