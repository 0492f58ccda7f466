"""How many images a second a training step of ours and of timm takes in.

    python benchmarks/training_step.py                # R50x1, 16 images of 128 x 128, on a CPU
    python benchmarks/training_step.py --device=gpu   # through Keras on JAX, and torch.compile

SGD with momentum 0.9 on a batch in memory, softmax cross-entropy over 1,000 classes, all weights.
Ours on a CPU is the step of `bit_keras.training`, which the commands take. In "4 pieces" the batch
is cut into micro-batches whose gradients are added up; "remat" computes units once more for their
gradients.
"""

from absl import app, flags
from alternating import Contender, Question, run

MODEL = flags.DEFINE_string("model", "R50x1", "One of timm's: R50x1, R101x3, ...")
SIZE = flags.DEFINE_integer("size", None, "Side of the images; by default 128, on a GPU 224.")
BATCH = flags.DEFINE_integer("batch", None, "Images a step; by default 16, on a GPU 64.")
CALLS = flags.DEFINE_integer("calls", None, "Steps a measurement; by default 2, on a GPU 20.")
DEVICE = flags.DEFINE_enum("device", "cpu", ["cpu", "gpu"], "Where to compute.")


def _on_cpu(common):
    ours = {"precision": "float32", **common}
    bfloat16 = {**ours, "precision": "mixed_bfloat16"}
    timm = {**common, "channels_last": True}
    return [
        Contender("ours", "our_training.py", ours),
        Contender("ours, 4 pieces", "our_training.py", {**ours, "pieces": 4}),
        Contender("ours, remat", "our_training.py", {**ours, "remat": True}),
        Contender("ours, bfloat16", "our_training.py", bfloat16),
        Contender("timm", "peer_training.py", common),
        Contender("timm, channels_last", "peer_training.py", timm),
        Contender("timm, channels_last, 4 pieces", "peer_training.py", {**timm, "pieces": 4}),
        Contender("timm, channels_last, remat", "peer_training.py", {**timm, "remat": True}),
        Contender("timm, channels_last, compiled", "peer_training.py", {**timm, "compiled": True}),
        Contender("timm, bfloat16", "peer_training.py", {**common, "bfloat16": True}),
        Contender("timm, channels_last, bfloat16", "peer_training.py", {**timm, "bfloat16": True}),
    ]


def _on_gpu(common):
    jax = {"environment": {"KERAS_BACKEND": "jax"}}
    timm = {**common, "channels_last": True, "device": "cuda"}
    contenders = []
    for precision, bfloat16 in (("float32", False), ("mixed_bfloat16", True)):
        end = ", bfloat16" if bfloat16 else ""
        ours, peer = {**common, "precision": precision}, {**timm, "bfloat16": bfloat16}
        contenders += [
            Contender(f"ours on JAX{end}", "our_jax.py", {**ours, "training": True}, **jax),
            Contender(f"timm, channels_last{end}", "peer_training.py", peer),
            Contender(
                f"timm, channels_last, compiled{end}",
                *("peer_training.py", {**peer, "compiled": True}),
            ),
        ]
    return contenders


def main(_: list[str]) -> None:
    size, batch, calls = (128, 16, 2) if DEVICE.value == "cpu" else (224, 64, 20)
    size, batch = SIZE.value or size, BATCH.value or batch
    common = {"measure": "rate", "model": MODEL.value, "size": size, "batch": batch}
    common["calls"] = CALLS.value or calls
    question = Question(
        f"training_step-{MODEL.value}-{DEVICE.value}",
        f"Training step of {MODEL.value}, {batch} images of {size} x {size} on a "
        f"{DEVICE.value.upper()}",
        ("images/s",),
        reference="timm, channels_last",
    )
    run(question, (_on_cpu if DEVICE.value == "cpu" else _on_gpu)(common))


if __name__ == "__main__":
    app.run(main)
