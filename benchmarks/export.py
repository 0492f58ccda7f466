"""How long `bit_keras.export` takes on an R50x1, how much memory, and how right the result is.

    python benchmarks/export.py                 # Linux; needs the extras runtimes and interop
    python benchmarks/export.py onnx openvino   # these formats only

Seconds and memory include reading back and comparing. Memory is the process's peak resident size
over what it held with the model loaded and called once, as a multiple of the model's own. Where no
difference is shown the export was refused: a network of random weights magnifies what is rounded
far more than a trained one.
"""

import argparse
import pathlib
import subprocess
import sys
import tempfile

EXPORTS = {
    "saved_model": ("out", {}),
    "saved_model, frozen": ("out", {"frozen": True}),
    "keras": ("out.keras", {}),
    "npz": ("out.npz", {}),
    "timm": ("out", {}),
    "transformers": ("out", {}),
    "onnx": ("out.onnx", {}),
    "openvino": ("out", {}),
    "litert": ("out.tflite", {}),
    "litert, float16": ("out.tflite", {"precision": "float16"}),
    "litert, int8": ("out.tflite", {"precision": "int8"}),
}

MEASURED = """
import pathlib, sys, time
import numpy as np
import tensorflow as tf
import bit_keras
from bit_keras.exporting.proof import photos
def memory(kind):
    status = open("/proc/self/status").read()
    return 1024 * int(status.split(kind)[1].split()[0])
source, format, path, options = sys.argv[1], sys.argv[2], sys.argv[3], eval(sys.argv[4])
model = bit_keras.load(source)
if options.get("precision") == "int8":
    options["images"] = np.concatenate([photos(224)[:, :, ::step] for step in (1, -1)])
model(tf.zeros((1, 224, 224, 3)))
open("/proc/self/clear_refs", "w").write("5")  # the peak starts anew
before, start = memory("VmRSS:"), time.perf_counter()
try:
    difference = bit_keras.export(model, path, format, **options)
except bit_keras.exporting.ExportError as error:  # random weights forgive little
    print(error, file=sys.stderr)
    difference = float("nan")
print(time.perf_counter() - start, memory("VmHWM:") - before, difference)
"""

SPEED = """
import sys, time
import numpy as np
import tensorflow as tf
import bit_keras
images = tf.random.uniform((8, 224, 224, 3))
model = bit_keras.load(sys.argv[1])
native = tf.function(lambda x: model(x, training=False))
frozen = tf.saved_model.load(sys.argv[2])
seconds = {native: [], frozen: []}
for _ in range(8):
    for forward in seconds:
        start = time.perf_counter()
        forward(images).numpy()
        seconds[forward].append(time.perf_counter() - start)
print(*(8 / np.median(times[2:]) for times in seconds.values()))
"""


def run(program, *arguments):
    command = [sys.executable, "-c", program, *map(str, arguments)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return map(float, done.stdout.splitlines()[-1].split())


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    known = "; ".join(EXPORTS)
    parser.add_argument("formats", nargs="*", metavar="FORMAT", help=f"By default all: {known}")
    chosen = parser.parse_args().formats or EXPORTS
    if unknown := [name for name in chosen if name not in EXPORTS]:
        parser.error(f"there is no format {unknown[0]!r}; there are {known}")

    import keras

    import bit_keras

    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        source = folder / "R50x1.npz"
        model = bit_keras.ResNetV2(50, 1, 1000)
        head = model.get_layer("head").conv.kernel
        head.assign(0.02 * keras.random.normal(head.shape))
        bit_keras.export(model, source, "npz")
        size = 4 * model.count_params()
        print(f"{'format':20} {'seconds':>8} {'memory':>7} {'difference':>11} {'MB':>6}")
        for name, (path, options) in EXPORTS.items():
            if name not in chosen:
                continue
            path = folder / name / path
            seconds, memory, difference = run(MEASURED, source, name.split(",")[0], path, options)
            files = [path, *path.rglob("*")]
            total = sum(file.stat().st_size for file in files if file.is_file()) / 1e6
            print(
                f"{name:20} {seconds:8.1f} {memory / size:6.2f}x {difference:11.1e} {total:6.0f}",
                flush=True,
            )
        frozen = folder / "saved_model, frozen" / "out"
        if frozen.exists():
            native, frozen = run(SPEED, source, frozen)
            print(
                f"forward, 8 images of 224 x 224: native {native:.1f} images/s, "
                f"frozen SavedModel {frozen:.1f}"
            )


if __name__ == "__main__":
    main()
