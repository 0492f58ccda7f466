"""Whether time is proportional to arithmetic: the rate of operations of large and small networks.

    python benchmarks/linear_cost.py

Depth, width and the size of images change what an image costs by a factor of up to 18. Where the
operations a second of a forward pass stay alike, no part of it grows faster than its arithmetic.
"""

from absl import app, flags
from alternating import Contender, Question, run

CASES = flags.DEFINE_list(
    "cases",
    ["R50x1@224x8", "R101x1@224x8", "R50x3@224x8", "R50x1@96x32", "R50x1@384x4"],
    "MODEL@SIZExBATCH; the first is what the others are compared with.",
)
CALLS = flags.DEFINE_integer("calls", 3, "Batches in one measurement.")


def _contender(case):
    import keras

    import bit_keras
    from bit_keras.training import forward_flops

    model, _, shape = case.partition("@")
    size, batch = map(int, shape.split("x"))
    network = bit_keras.load(model, num_classes=1000, init="random")
    settings = {
        "measure": "rate",
        "calls": CALLS.value,
        "model": model,
        "size": size,
        "batch": batch,
        "gflop": forward_flops(network, (size, size, 3)) / 1e9,
    }
    keras.backend.clear_session()
    return Contender(f"{model}, {batch} images of {size} x {size}", "our_forward.py", settings)


def main(_: list[str]) -> None:
    contenders = [_contender(case) for case in CASES.value]
    title = "Operations a second of a forward pass, in multiplications and additions"
    figures = ("GFLOP/s", "images/s")
    run(Question("linear_cost", title, figures, reference=contenders[0].name), contenders)


if __name__ == "__main__":
    app.run(main)
