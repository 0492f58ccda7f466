import keras
import pytest
import tensorflow as tf
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

import bit_keras
from bit_keras.training import LOSSES, Objective, forward_flops, memory


@pytest.fixture
def one_gigabyte(monkeypatch):
    monkeypatch.setattr(memory, "machine_memory", lambda: 2**30)


def split(model, pieces=None, **changes):
    spec = tf.TensorSpec((None, 64, 64, 3)), tf.TensorSpec((None, 5))
    settings = {"batches": None, "batch": 512, "loss": LOSSES["softmax"], "spec": spec, **changes}
    objective = Objective(model=model, **settings)
    return memory.fitting_split(objective, tf.distribute.get_strategy(), pieces)


def test_a_split_is_the_fewest_pieces_that_fit(tiny, one_gigabyte):
    pieces, need = split(tiny)
    limit = memory.USABLE["CPU"] * 2**30
    assert 1 < pieces < 512
    assert need <= limit
    larger = max(n for n in range(1, pieces) if 512 % n == 0)
    assert split(tiny, pieces=larger)[1] > limit
    assert split(tiny, batch=8)[0] == 1


def test_images_that_do_not_fit_even_singly_are_tried_one_by_one(tiny, monkeypatch):
    monkeypatch.setattr(memory, "machine_memory", lambda: 2**20)  # holds images, and no gradient
    assert split(tiny, batch=6)[0] == 6


def test_a_batch_whose_images_alone_do_not_fit_is_refused_at_once(tiny, one_gigabyte):
    with pytest.raises(ValueError, match=r"100,000 images takes 4.6 GiB before any split.*smaller"):
        split(tiny, batch=100_000)


def test_a_batch_without_divisors_is_not_split_into_single_images_unasked(tiny, one_gigabyte):
    with pytest.raises(ValueError, match=r"509 images .* such as 50\d, or batch_split=509 "):
        split(tiny, batch=509)
    assert split(tiny, batch=509, pieces=509)[0] == 509


def test_a_search_for_a_split_takes_few_estimates(tiny, monkeypatch):
    """Where a constant part fills the memory, every divisor of the batch was tried once."""
    tried = []

    def need(objective, examples):
        tried.append(examples)
        return 2**30 + examples

    monkeypatch.setattr(memory, "_gradient_memory", need)
    monkeypatch.setattr(memory, "machine_memory", lambda: 2**31)
    assert split(tiny, batch=1024)[0] == 1024
    assert len(tried) <= 5


def test_a_cpu_may_take_a_part_of_the_machines_memory(one_gigabyte):
    assert memory.usable_memory(tf.distribute.get_strategy()) == pytest.approx(0.4 * 2**30)


def test_rematerialized_units_take_less():
    model = bit_keras.ResNetV2(50, 0.25, 5)
    before = split(model, pieces=16)[1]
    memory.rematerialize(model)
    assert split(model, pieces=16)[1] < 0.75 * before  # of which weights are more than half


def test_targets_add_their_weights_and_what_they_compute(tiny):
    """8 MB of weights, and 4 MB read and their exponential, or that and its square."""
    weights = tf.Variable(tf.zeros([2, 1000, 1000]))

    def targets(images, labels):
        return labels + tf.reduce_sum(tf.square(tf.exp(weights[0] + 1)))

    added = split(tiny, pieces=512, targets=targets)[1] - split(tiny, pieces=512)[1]
    assert added == pytest.approx(8e6 + 12e6, rel=0.01)


def test_the_memory_of_a_known_graph():
    """8 MB at a time: x and its square, or the square and the square's exponential."""

    @tf.function
    def graph(x):
        square = tf.square(x + 1)
        return tf.reduce_sum(tf.exp(square))

    found = memory.peak_memory(graph.get_concrete_function(tf.TensorSpec((1000, 1000))).graph)
    assert found == pytest.approx(8e6, rel=0.01)


def test_flops_are_those_tensorflow_counts(tiny):
    frozen = convert_variables_to_constants_v2(
        tf.function(lambda x: tiny(x, training=False)).get_concrete_function(
            tf.TensorSpec((1, 64, 96, 3))
        )
    )
    options = tf.compat.v1.profiler.ProfileOptionBuilder.float_operation()
    options["output"] = "none"
    profile = tf.compat.v1.profiler.profile(frozen.graph, cmd="op", options=options)
    convolutions = profile.children[0]  # each node's children are of other kinds
    assert convolutions.name == "Conv2D"
    assert forward_flops(tiny, (64, 96, 3)) == convolutions.float_ops


def test_flops_of_the_published_size():
    model = bit_keras.ResNetV2((3, 4, 6, 3), 1, 1000, kernel_initializer="zeros")
    assert forward_flops(model, (224, 224, 3)) / 2 == pytest.approx(4.1e9, rel=0.01)


def test_nested_labels_and_losses_have_a_split_too(one_gigabyte):
    """Of a head of 1,000 by 1,000 weights, which outweighs an example's own 4 kB."""
    inputs = keras.Input((1000,))
    model = keras.Model(inputs, {"a": keras.layers.Dense(1000)(inputs)})
    objective = Objective(
        model=model,
        batches=None,
        batch=64,
        loss=lambda labels, outputs: {"only": tf.norm(labels["a"] - outputs["a"], axis=1)},
        parts=("only",),
        spec=(tf.TensorSpec((None, 1000)), {"a": tf.TensorSpec((None, 1000))}),
    )
    pieces, need = memory.fitting_split(objective, tf.distribute.get_strategy())
    assert pieces == 1
    assert 16e6 < need < 24e6  # weights, momentum, sums of gradients, and the gradient
