"""The loss of a student, and its training by the loop alone."""

import keras
import numpy as np
import pytest
import scipy.special
import tensorflow as tf
from students import expert, noise_images, small_student

from bit_keras import data
from bit_keras.classification.distillation import Teacher
from bit_keras.training import Intervals, Objective, RunFolder, Tests, train


@pytest.fixture(scope="module")
def noise():
    return noise_images()


@pytest.fixture(scope="module")
def teacher():
    return expert()


@pytest.mark.parametrize("temperature", [1.0, 4.0])
@pytest.mark.parametrize("kind", ["softmax", "sigmoid"])
def test_the_loss_is_the_divergence_of_the_teacher_from_the_student(kind, temperature):
    rng = np.random.default_rng(0)
    p, q = rng.normal(0, 5, (2, 6, 7))
    loss = Teacher("any", None, temperature).loss(kind)
    found = loss(tf.constant(p, tf.float32), tf.constant(q, tf.float32))
    if kind == "softmax":
        p, q = (scipy.special.softmax(x / temperature, axis=1) for x in (p, q))
        expected = scipy.special.rel_entr(p, q).sum(axis=1)
    else:
        p, q = (scipy.special.expit(x / temperature) for x in (p, q))
        expected = (scipy.special.rel_entr(p, q) + scipy.special.rel_entr(1 - p, 1 - q)).sum(axis=1)
    np.testing.assert_allclose(found, temperature**2 * expected, rtol=1e-4)


@pytest.mark.parametrize("kind", ["softmax", "sigmoid"])
def test_logits_that_are_far_out_have_finite_gradients(kind):
    teacher = tf.constant([[300.0, -300.0, 0.0]])
    student = tf.Variable([[-300.0, 300.0, 0.0]])
    with tf.GradientTape() as tape:
        loss = Teacher("any", None, 1.0).loss(kind)(teacher, student)
    np.testing.assert_allclose(loss, [600.0], rtol=1e-5)
    assert np.isfinite(tape.gradient(loss, student)).all()


def taught(path, student, teacher, images, steps=2, lr=0.5, evaluate_every=None, **settings):
    """Trains a student on mixed crops; returns the losses."""

    def batches(step, part):
        return data.training_batches(
            images,
            batch=8,
            resize=36,
            crop=32,
            seed=1,
            mixup_alpha=1.0,
            start_step=step,
            part=part,
        )

    guide = Teacher("expert", teacher, 2.0)
    objective = Objective(
        model=student,
        batches=batches,
        batch=8,
        loss=guide.loss("softmax"),
        targets=guide.targets,
    )
    optimizer = keras.optimizers.SGD(lr, momentum=0.9)
    with RunFolder(path, {}) as folder:
        every = Intervals(log=1, checkpoint=3, evaluate=evaluate_every)
        train(objective, optimizer, folder, steps=steps, every=every, **settings)
        return [line["loss"] for line in folder.history()]


@pytest.mark.slow
def test_a_student_that_is_its_teacher_has_nothing_to_learn(noise, teacher, tmp_path):
    student = keras.models.clone_model(teacher)
    student.set_weights(teacher.get_weights())
    before = teacher.get_weights()
    assert max(taught(tmp_path / "same", student, teacher, noise, steps=3)) < 1e-5
    for a, b in zip(before, student.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-4)

    student.get_layer("head").conv.kernel.assign_add(before[-2])  # so there is
    assert min(taught(tmp_path / "other", student, teacher, noise, lr=0.01)) > 1e-3
    assert not np.allclose(before[0], student.get_weights()[0], atol=1e-4)
    for a, b in zip(before, teacher.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_pieces_have_the_gradient_of_the_whole(noise, teacher, tmp_path):
    weights = []
    for pieces in (1, 2):
        student = small_student()
        taught(tmp_path / str(pieces), student, teacher, noise, pieces=pieces)
        weights.append(student.get_weights())
    assert np.abs(weights[0][1]).max() > 1e-3  # the bias, which was zero
    for a, b in zip(*weights, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)


def test_an_interrupted_student_goes_on(noise, teacher, tmp_path):
    undisturbed, cut, resumed = small_student(), small_student(), small_student()
    taught(tmp_path / "whole", undisturbed, teacher, noise, steps=6)

    def interrupt(step):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        taught(
            *(tmp_path / "run", cut, teacher, noise),
            steps=6,
            tests=Tests(interrupt),
            evaluate_every=4,
        )
    taught(tmp_path / "run", resumed, teacher, noise, steps=6)
    for a, b in zip(undisturbed.get_weights(), resumed.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)
