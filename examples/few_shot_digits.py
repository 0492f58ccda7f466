"""What pre-training is worth: a few handwritten digits a class, pre-trained against random start.

    python examples/few_shot_digits.py --shots=5,10 --seeds=5

Both starts have the same rule, the same images and the same seeds; each run is tested on all the
digits it was not trained on. About a minute a run on two cores. Prints a Markdown table; goes
on where it was interrupted.
"""

import json
import pathlib

import numpy as np
from absl import flags

import bit_keras
from bit_keras.cli import application

MODEL = flags.DEFINE_string("model", "BiT-XS-R26x0.25", "What to start from.")
SHOTS = flags.DEFINE_list("shots", ["5", "10"], "Digits a class to train on.")
SEEDS = flags.DEFINE_integer("seeds", 5, "Runs for every row.", lower_bound=1)
LOGDIR = flags.DEFINE_string("logdir", "runs/few_shot_digits", "Where the runs' folders go.")


def accuracies(shots, init):
    """Test accuracies in percent, one a seed; the seed picks the digits and makes the batches."""
    for seed in range(SEEDS.value):
        workdir = pathlib.Path(LOGDIR.value) / f"{shots}-shot-{init}-{seed}"
        if not (workdir / "metrics.json").exists():  # or an earlier call came this far
            train, test = bit_keras.data.digits(shots, seed=seed)
            bit_keras.fine_tune(MODEL.value, train, test, workdir=workdir, init=init, seed=seed)
        yield 100 * json.loads((workdir / "metrics.json").read_text())["accuracy"]


def main():
    rows = []
    for shots in map(int, SHOTS.value):
        found = {init: list(accuracies(shots, init)) for init in ("pretrained", "random")}
        cells = [f"{np.mean(a):.1f} ({min(a):.1f} to {max(a):.1f})" for a in found.values()]
        gain = np.mean(found["pretrained"]) - np.mean(found["random"])
        rows.append(f"| {shots} | {cells[0]} | {cells[1]} | {gain:+.1f} |")
    print("| digits a class | pre-trained, accuracy in % | random start | gain |")
    print("| --- | --- | --- | --- |")
    print("\n".join(rows))


if __name__ == "__main__":
    application.run(main)
