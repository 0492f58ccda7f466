"""How much memory training takes, at most.

    python benchmarks/memory.py     # Linux; R50x1, 16 images of 128 x 128

Every measurement is of a new process that takes three steps on a batch in memory (`training_step`
has the settings): its largest resident size, and what of that came after the imports. A whole
fine-tuning under --batch_split=auto is measured by `training_memory.py`.
"""

from absl import app, flags
from alternating import Contender, Question, run

MODEL = flags.DEFINE_string("model", "R50x1", "One of timm's: R50x1, R101x3, ...")
SIZE = flags.DEFINE_integer("size", 128, "Side of the images.")
BATCH = flags.DEFINE_integer("batch", 16, "Images a step.")
STEPS = 3


def main(_: list[str]) -> None:
    common = {"measure": "memory", "model": MODEL.value, "calls": STEPS}
    common |= {"size": SIZE.value, "batch": BATCH.value}
    ours, timm = {**common, "precision": "float32"}, {**common, "channels_last": True}
    settings = {
        "ours": ("our_training.py", ours),
        "ours, 4 pieces": ("our_training.py", {**ours, "pieces": 4}),
        "ours, remat": ("our_training.py", {**ours, "remat": True}),
        "timm": ("peer_training.py", common),
        "timm, channels_last": ("peer_training.py", timm),
        "timm, channels_last, 4 pieces": ("peer_training.py", {**timm, "pieces": 4}),
        "timm, channels_last, remat": ("peer_training.py", {**timm, "remat": True}),
    }
    question = Question(
        f"memory-{MODEL.value}",
        f"Largest memory of training {MODEL.value}, {BATCH.value} images of {SIZE.value} x "
        f"{SIZE.value}",
        ("peak, MB", "less imports, MB"),
        reference="timm, channels_last",
    )
    run(question, [Contender(name, *given, fresh=True) for name, given in settings.items()])


if __name__ == "__main__":
    app.run(main)
