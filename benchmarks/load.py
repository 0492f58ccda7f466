"""How long loading a model from a file takes, and how much memory, by ours and by timm.

    python benchmarks/load.py     # Linux; R50x1 with 1,000 classes

Ours is `bit_keras.load` of an npz file; timm's is `create_model` and `load_state_dict` of the same
weights in a safetensors file. Every measurement is of a new process. Memory is the growth of its
largest resident size over what importing the framework and making one tensor took; the seconds from
the start of the process till then are told apart.
"""

import pathlib
import subprocess
import sys
import tempfile

from absl import app, flags
from alternating import Contender, Question, environment, run

MODEL = flags.DEFINE_string("model", "R50x1", "One of timm's: R50x1, R101x3, ...")

MAKE = """
import pathlib, sys
import bit_keras
from bit_keras.checkpoints import save_timm
model, folder = bit_keras.load(sys.argv[1], num_classes=1000, init="random"), sys.argv[2]
bit_keras.export(model, pathlib.Path(folder, "model.npz"), "npz")
save_timm(pathlib.Path(folder, "timm"), {v.path: v.numpy() for v in model.variables})
"""


def main(_: list[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-c", MAKE, MODEL.value, folder]
        subprocess.run(command, check=True, stdout=sys.stderr, env=environment())
        npz = pathlib.Path(folder, "model.npz")
        safetensors = pathlib.Path(folder, "timm", "model.safetensors")
        for file in (npz, safetensors):
            file.read_bytes()  # all rounds find it in memory
        common = {"measure": "once", "model": MODEL.value}
        question = Question(
            f"load-{MODEL.value}",
            f"Loading {MODEL.value}, {npz.stat().st_size / 1e6:.0f} MB, from a file",
            ("seconds", "memory, MB", "import, s"),
            reference="timm",
        )
        ours, timm = {**common, "path": str(npz)}, {**common, "path": str(safetensors)}
        contenders = [
            Contender("ours", "our_load.py", ours, fresh=True),
            Contender("timm", "peer_load.py", timm, fresh=True),
        ]
        run(question, contenders)


if __name__ == "__main__":
    app.run(main)
