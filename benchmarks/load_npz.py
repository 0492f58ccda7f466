"""How long `bit_keras.load` takes on an R50x1 npz, and how much memory.

    python benchmarks/load_npz.py        # Linux

Memory is the growth of the process's peak resident size over what importing TensorFlow and making
one tensor had taken, as a multiple of the file's size.
"""

import pathlib
import subprocess
import sys
import tempfile

MEASURED = """
import sys, time
def peak():  # of this program alone; ru_maxrss would inherit its parent's
    status = open("/proc/self/status").read()
    return 1024 * int(status.split("VmHWM:")[1].split()[0])
import tensorflow as tf
tf.zeros(1) + 1
import bit_keras
before = peak()
start = time.perf_counter()
model = bit_keras.load(sys.argv[1])
print(time.perf_counter() - start, peak() - before)
"""


def main():
    import bit_keras

    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "BiT-S-R50x1.npz"
        bit_keras.export(bit_keras.ResNetV2(50, 1, 1000), path, format="npz")
        size = path.stat().st_size
        for _ in range(3):
            # A process of its own each time: peaks never fall.
            command = [sys.executable, "-c", MEASURED, str(path)]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            seconds, memory = map(float, done.stdout.split())
            print(
                f"{size / 1e6:.0f} MB file: {seconds:.2f} s, "
                f"{memory / 1e6:.0f} MB = {memory / size:.2f} times the file"
            )


if __name__ == "__main__":
    main()
