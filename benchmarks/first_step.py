"""How long it takes from the start of a program to the end of its first and second training step.

    python benchmarks/first_step.py
    python benchmarks/first_step.py --models=R50x1,R152x4

Every measurement is of a new process, and begins when it is started: it imports, builds a network
of random weights, and takes two steps on a batch in memory. What `bit-finetune` takes beside, which
also reads and checks images, is in `finetune.py`.
"""

from absl import app, flags
from alternating import Contender, Question, run

MODELS = flags.DEFINE_list("models", ["R50x1"], "Of timm's: R50x1, R101x3, R152x4, ...")
SIZE = flags.DEFINE_integer("size", 128, "Side of the images.")
BATCH = flags.DEFINE_integer("batch", 16, "Images a step.")


def main(_: list[str]) -> None:
    for model in MODELS.value:
        common = {"measure": "first_steps", "model": model}
        common |= {"size": SIZE.value, "batch": BATCH.value}
        ours, timm = {**common, "precision": "float32"}, {**common, "channels_last": True}
        question = Question(
            f"first_step-{model}",
            f"From the start of the program to a training step of {model}, {BATCH.value} images of "
            f"{SIZE.value} x {SIZE.value}",
            ("first step, s", "second step, s"),
            reference="timm, channels_last",
        )
        contenders = [
            Contender("ours", "our_training.py", ours, fresh=True),
            Contender("timm", "peer_training.py", common, fresh=True),
            Contender("timm, channels_last", "peer_training.py", timm, fresh=True),
        ]
        run(question, contenders)


if __name__ == "__main__":
    app.run(main)
