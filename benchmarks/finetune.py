"""How many images a second the whole command `bit-finetune` trains on, and how soon it begins.

    python benchmarks/finetune.py

Beside it stand the same recipe in PyTorch with timm (`peer_finetune.py`), with 0 and with 2
processes that decode images, and our bare training step on a batch in memory. The images are JPEG
files of 256 x 256 pixels that this program makes. Images a second are those between the first and
the last line of the log: reading, decoding, logging and checkpoints are in them. The whole command
also checks all images, tests, exports with a proof and writes a report; timm's tests and saves.
"""

import json
import pathlib
import sys
import tempfile

import numpy as np
import PIL.Image
from absl import app, flags
from alternating import HERE, Contender, Question, peers_python, run

MODEL = flags.DEFINE_string("model", "R50x1", "One of timm's: R50x1, R101x3, ...")
IMAGES = flags.DEFINE_integer("images", 256, "Images to train on; an eighth as many to test on.")
STEPS = flags.DEFINE_integer("steps", 40, "Steps of a run, of which the first is not counted.")
BATCH = flags.DEFINE_integer("batch", 16, "Images a step.")
CROP = flags.DEFINE_integer("crop", 128, "Side of the images; they are resized to 5/4 of it.")
CLASSES, SIDE = 4, 256


def _make_images(folder):
    """Writes smooth noise, whose files are as large as those of photos: some 27 kB."""
    rng = np.random.default_rng(0)
    for part, number in (("train", IMAGES.value), ("test", max(CLASSES, IMAGES.value // 8))):
        for i in range(number):
            file = pathlib.Path(folder, part, f"class{i % CLASSES}", f"{i}.jpg")
            file.parent.mkdir(parents=True, exist_ok=True)
            noise = PIL.Image.fromarray(rng.integers(0, 256, (48, 48, 3), np.uint8))
            noise.resize((SIDE, SIDE), PIL.Image.Resampling.BICUBIC).save(file, quality=90)


def _ours(folder, resize):
    flags_of_ours = {
        "model": MODEL.value,
        "init": "random",
        "dataset": folder,
        "steps": STEPS.value,
        "batch": BATCH.value,
        "resize": resize,
        "crop": CROP.value,
        "mix": "mixup",
        "logdir": "WORKDIR",
        "name": "run",
    }
    command = [sys.executable, "-m", "bit_keras.cli.finetune"]
    command += [f"--{name}={value}" for name, value in flags_of_ours.items()]
    settings = {"measure": "itself", "command": command, "log": "run/metrics.jsonl"}
    return Contender(
        "ours, bit-finetune", "watched_command.py", {**settings, "batch": BATCH.value}, fresh=True
    )


def _timm(folder, resize, workers):
    recipe = {
        "model": MODEL.value,
        "data": folder,
        "steps": STEPS.value,
        "batch": BATCH.value,
        "resize": resize,
        "crop": CROP.value,
        "workers": workers,
        "channels_last": True,
    }
    command = [peers_python(), str(HERE / "peer_finetune.py"), json.dumps(recipe), "WORKDIR"]
    settings = {"measure": "itself", "command": command, "log": "metrics.jsonl"}
    return Contender(
        f"timm, channels_last, {workers} workers",
        "watched_command.py",
        {**settings, "batch": BATCH.value},
        fresh=True,
    )


def _bare(program, **own):
    settings = {"measure": "rate", "model": MODEL.value, "size": CROP.value, "calls": 4}
    return program, {**settings, "batch": BATCH.value, **own}


def main(_: list[str]) -> None:
    resize = CROP.value * 5 // 4
    question = Question(
        f"finetune-{MODEL.value}",
        f"Fine-tuning {MODEL.value}, {STEPS.value} steps of {BATCH.value} images, resized to "
        f"{resize} and cropped to {CROP.value}",
        ("images/s", "first step, s", "whole command, s"),
        reference="ours, bare step",
    )
    with tempfile.TemporaryDirectory() as folder:
        _make_images(folder)
        contenders = [
            _ours(folder, resize),
            *(_timm(folder, resize, workers) for workers in (0, 2)),
            Contender("ours, bare step", *_bare("our_training.py", precision="float32")),
            Contender("timm, bare step", *_bare("peer_training.py", channels_last=True)),
        ]
        run(question, contenders)


if __name__ == "__main__":
    app.run(main)
