"""Files that older versions wrote still load, and mean what they meant."""

import pathlib

import keras
import numpy as np
import pytest

import bit_keras

GOLDEN = pathlib.Path(__file__).with_name("golden")


def test_a_model_of_an_older_version_answers_as_it_did():
    images = np.random.default_rng(1).uniform(size=(2, 40, 33, 3)).astype("float32")
    answers = [
        [-0.05301946401596069, 0.781427264213562, -0.00041347742080688477],
        [0.02586771547794342, 0.7662875056266785, -0.020139604806900024],
    ]
    model = bit_keras.load(GOLDEN / "old_model.keras")
    np.testing.assert_allclose(model(images), answers, atol=1e-5)


@pytest.mark.parametrize(
    ("file", "rates"),
    [
        (
            "old_compiled_hyperrule",  # warm-up 100; a tenth after the steps 200, 300 and 400
            {0: 0, 50: 0.0015, 100: 0.003, 200: 0.003, 201: 3e-4, 300: 3e-4, 301: 3e-5, 401: 3e-6},
        ),
        (
            "old_compiled_upstream",  # warm-up 5,000; a tenth from the steps 733, 1,465 and 1,954
            {
                0: 0,
                732: 0.48 * 732 / 5000,
                733: 0.048 * 733 / 5000,
                1465: 0.0048 * 1465 / 5000,
                1954: 0.00048 * 1954 / 5000,
                5000: 0.00048,
            },
        ),
    ],
)
def test_the_learning_rate_of_an_older_version_is_what_it_was(file, rates, tmp_path):
    model = keras.saving.load_model(GOLDEN / f"{file}.keras", compile=True)
    model.save(tmp_path / "new.keras")
    for compiled in (model, keras.saving.load_model(tmp_path / "new.keras", compile=True)):
        for step, rate in rates.items():
            compiled.optimizer.iterations.assign(step)
            assert float(compiled.optimizer.learning_rate) == pytest.approx(rate, rel=1e-6)
