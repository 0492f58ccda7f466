"""How many images a second a forward pass of ours, of our exports and of our peers answers.

    python benchmarks/forward.py                # R50x1, 8 images of 224 x 224, on a CPU
    python benchmarks/forward.py --device=gpu   # through Keras on JAX, and torch.compile

All have the same random weights, 1,000 classes and images in memory, which are NumPy arrays for
ONNX Runtime and OpenVINO and tensors for the others; answers come back as NumPy arrays. Exports are
proven, as ever, before anything is measured, which takes some minutes: --exports keeps them.
"""

import contextlib
import pathlib
import subprocess
import sys
import tempfile

from absl import app, flags
from alternating import Contender, Question, environment, run

MODEL = flags.DEFINE_string("model", "R50x1", "An architecture: R50x1, R101x3, ...")
SIZE = flags.DEFINE_integer("size", 224, "Side of the images.")
BATCH = flags.DEFINE_integer("batch", None, "Images at once; by default 8, on a GPU 64.")
CALLS = flags.DEFINE_integer("calls", None, "Passes a measurement; by default 4, on a GPU 50.")
DEVICE = flags.DEFINE_enum("device", "cpu", ["cpu", "gpu"], "Where to compute.")
EXPORTS = flags.DEFINE_string(
    "exports", None, "Folder to keep the exports in; those that are there are measured as they are."
)

# Small logits: a network of random weights magnifies what is rounded, and a proof forgives little.
MAKE = """
import pathlib, sys
import keras
import bit_keras
model, folder, exports = sys.argv[1], pathlib.Path(sys.argv[2]), sys.argv[3:]
keras.utils.set_random_seed(0)
model = bit_keras.load(model, num_classes=1000, init="random")
head = model.get_layer("head").conv.kernel
head.assign(0.001 * keras.random.normal(head.shape))
for export in exports:
    name, format, frozen = export.split(",")
    bit_keras.export(model, folder / name, format, frozen=bool(frozen))
"""
FORMATS = {  # in the folder of the exports
    "model.npz": ("npz", ""),
    "timm": ("timm", ""),
    "transformers": ("transformers", ""),
    "frozen": ("saved_model", "frozen"),
    "model.onnx": ("onnx", ""),
    "openvino": ("openvino", ""),
}


def _make_exports(folder, names):
    """Writes what is not there yet, by a process of its own."""
    missing = [name for name in names if not (folder / name).exists()]
    if missing:
        exports = [",".join((name, *FORMATS[name])) for name in missing]
        command = [sys.executable, "-c", MAKE, MODEL.value, str(folder), *exports]
        subprocess.run(command, check=True, stdout=sys.stderr, env=environment())


def _on_cpu(common, folder):
    def ours(name, kind):
        settings = {**common, "kind": kind, "folder": str(folder)}
        return Contender(f"ours, {name}", "our_forward.py", settings)

    def peer(name, peer="timm", **settings):
        settings = {**common, "peer": peer, "folder": str(folder / peer), **settings}
        return Contender(name, "peer_forward.py", settings)

    last = {"channels_last": True}
    return [
        ours("native", "native"),
        ours("native bfloat16", "bfloat16"),
        ours("frozen SavedModel", "saved_model"),
        ours("ONNX Runtime", "onnx"),
        ours("OpenVINO", "openvino"),
        peer("timm"),
        peer("timm, channels_last", **last),
        peer("timm, compiled", compiled=True),
        peer("timm, compiled, channels_last", compiled=True, **last),
        peer("timm, compiled and frozen, channels_last", frozen=True, **last),
        peer("timm, standardized once, channels_last", standardized=True, **last),
        peer("timm, bfloat16, channels_last", bfloat16=True, **last),
        peer("timm, OpenVINO", openvino=True),
        peer("transformers", "transformers"),
    ]


def _on_gpu(common, folder):
    jax = {"environment": {"KERAS_BACKEND": "jax"}}
    contenders = []
    for precision, bfloat16 in (("float32", False), ("mixed_bfloat16", True)):
        end = ", bfloat16" if bfloat16 else ""
        ours = {**common, "folder": str(folder), "precision": precision}
        peer = {**common, "peer": "timm", "folder": str(folder / "timm"), "device": "cuda"}
        peer |= {"channels_last": True, "bfloat16": bfloat16}
        contenders += [
            Contender(f"ours on JAX{end}", "our_jax.py", ours, **jax),
            Contender(f"timm, channels_last{end}", "peer_forward.py", peer),
            Contender(
                f"timm, compiled, channels_last{end}",
                *("peer_forward.py", {**peer, "compiled": True}),
            ),
        ]
    return contenders


def main(_: list[str]) -> None:
    cpu = DEVICE.value == "cpu"
    batch, calls = BATCH.value or (8 if cpu else 64), CALLS.value or (4 if cpu else 50)
    common = {"measure": "rate", "size": SIZE.value, "batch": batch, "calls": calls}
    question = Question(
        f"forward-{MODEL.value}-{DEVICE.value}",
        f"Forward pass of {MODEL.value}, {batch} images of {SIZE.value} x {SIZE.value} on a "
        f"{DEVICE.value.upper()}",
        ("images/s",),
        reference="timm, channels_last",
    )
    kept = contextlib.nullcontext(EXPORTS.value)
    with kept if EXPORTS.value else tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder).expanduser().resolve()
        folder.mkdir(parents=True, exist_ok=True)
        _make_exports(folder, [*FORMATS] if cpu else ["model.npz", "timm"])
        run(question, (_on_cpu if cpu else _on_gpu)(common, folder))


if __name__ == "__main__":
    app.run(main)
