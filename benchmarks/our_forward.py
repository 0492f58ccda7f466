"""A forward pass of ours, of the model itself or of an export. See `serving`.

Settings: kind ("native", "bfloat16", "saved_model", "onnx" or "openvino") and folder (with what
`forward.py` made), or model ("R50x1", of random weights); size, batch.
"""

import pathlib

import numpy as np
from serving import check_bfloat16, serve

EXPORTS = {"saved_model": "frozen", "onnx": "model.onnx", "openvino": "openvino"}


def _start(_):
    import tensorflow as tf

    tf.zeros(1) + 1
    import bit_keras  # noqa: F401


def forward_pass(settings: dict) -> object:
    """Returns a function that answers a batch of images in memory."""
    import keras
    import tensorflow as tf

    import bit_keras
    from bit_keras.exporting.formats import FORMATS

    kind, folder = settings.get("kind", "native"), pathlib.Path(settings.get("folder", ""))
    shape = (settings["batch"], settings["size"], settings["size"], 3)
    images = np.random.default_rng(0).random(shape, np.float32)
    if kind in EXPORTS:
        compute = FORMATS[kind].open(folder / EXPORTS[kind]).compute
        if kind == "saved_model":
            images = tf.constant(images)
        return lambda: np.asarray(compute(images))
    if kind == "bfloat16":
        check_bfloat16()
        keras.config.set_dtype_policy("mixed_bfloat16")
    if "model" in settings:
        model = bit_keras.load(settings["model"], num_classes=1000, init="random")
    else:
        model = bit_keras.load(folder / "model.npz")
    forward, images = tf.function(lambda x: model(x, training=False)), tf.constant(images)
    return lambda: forward(images).numpy()


if __name__ == "__main__":
    serve(_start, forward_pass, ("tensorflow", "keras", "onnxruntime", "openvino"))
