"""Students and teachers: what is learned, of which pixels, and from whom."""

import itertools
import json
import pathlib
import subprocess
import sys

import keras
import numpy as np
import pytest
import scipy.special
import tensorflow as tf
import tensorflow_datasets as tfds
from conftest import named_weights
from students import TINY, expert, noise_images, small_student
from test_cli import finetune

import bit_keras
from bit_keras import HyperRule, data
from bit_keras.checkpoints import save_npz
from bit_keras.classification.distillation import open_teacher
from bit_keras.classification.fine_tuning import default_rule
from bit_keras.classification.pretraining import plan
from bit_keras.models.published import PUBLISHED
from bit_keras.recipes.upstream import recipe

RULE = HyperRule(4, 8, 0.1, 0, (), 36, 32, 1.0)


@pytest.fixture(scope="module")
def noise():
    return noise_images()


@pytest.fixture(scope="module")
def teacher():
    return expert()


@pytest.fixture(scope="module")
def file(teacher, tmp_path_factory):
    """The teacher's, whose architecture students have too."""
    path = tmp_path_factory.mktemp("files") / "expert.npz"
    bit_keras.export(teacher, path, "npz")
    return path


@keras.saving.register_keras_serializable("test_distillation")
class Witness(keras.layers.Layer):
    """Passes images on, and keeps them under its name."""

    seen = {}  # noqa: RUF012 (of all witnesses)

    def call(self, images):
        def keep(images):
            Witness.seen.setdefault(self.name, []).append(images.numpy())

        tf.py_function(keep, [images], [])
        return images


def witness(name, num_classes):
    """A linear model, 0 classes for none, that keeps the images it is shown."""
    images = keras.Input((None, None, 3))
    x = keras.layers.GlobalAveragePooling2D(name="pooled")(Witness(name=name)(images))
    return bit_keras.models.resnet_v2.with_head(keras.Model(images, x, name=name), num_classes)


@pytest.mark.parametrize("mix", ["mixup", "cutmix"])
def test_teacher_and_student_are_shown_the_same_mixed_crops(noise, tmp_path, mix):
    rule = RULE.with_mix(mix)
    bit_keras.fine_tune(
        *(witness("student", 0), noise),
        workdir=tmp_path / "run",
        rule=rule.with_steps(2),
        teacher=witness("teacher", 3),
        batch_split=2,
        export=False,
        seed=3,
    )
    alphas = {"mixup_alpha": rule.mixup_alpha, "cutmix_alpha": rule.cutmix_alpha}
    assert 1 in alphas.values()
    expected = data.training_batches(noise, batch=8, resize=36, crop=32, seed=3, **alphas)
    seen = {name: np.concatenate(Witness.seen.pop(name)) for name in ("student", "teacher")}
    np.testing.assert_array_equal(seen["student"], seen["teacher"])
    np.testing.assert_array_equal(seen["student"], first_images(expected, 2))


def first_images(batches, steps):
    return np.concatenate([x for x, _ in itertools.islice(batches, steps)])


def test_pretraining_mixes_for_both_and_learns_the_teacher(file, noise, tmp_path):
    short = recipe("BiT-M").replace(epochs=1, decay_epochs=(), batch=8, crop=32, test_resize=36)
    short = short.replace(warmup_steps=0, base_lr=1e-3, mixup_alpha=1.0)
    bit_keras.pretrain(
        *(file, noise),
        workdir=tmp_path / "run",
        recipe=short,
        teacher=witness("upstream", 3),
        temperature=3,
        export=False,
    )
    seen = np.concatenate(Witness.seen.pop("upstream"))
    expected = data.upstream_batches(noise, batch=8, seed=0, crop=32, mixup_alpha=1.0)
    np.testing.assert_array_equal(seen, first_images(expected, 3))
    config = json.loads((tmp_path / "run/config.json").read_text())
    assert config["teacher"]["model"] == "upstream"
    assert config["recipe"]["mixup_alpha"] == 1
    # The teacher's head is zero: each class at 1/2; the student's bias is -10.
    q = scipy.special.expit(-10 / 3)
    lines = [json.loads(x) for x in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    expected = 9 * 3 * -0.5 * (np.log(2 * q) + np.log(2 * (1 - q)))
    assert lines[0]["loss"] == pytest.approx(expected, rel=0.05)


def test_a_plan_counts_the_teacher(file, noise, teacher):
    settings = {"recipe": recipe("BiT-S").replace(warmup_steps=0, batch=8, crop=32)}
    alone = plan(file, noise, **settings)
    both = plan(file, noise, teacher=teacher, **settings)
    assert both.memory > alone.memory + 4 * teacher.count_params()
    assert both.teacher_flops == bit_keras.training.forward_flops(teacher, (32, 32, 3))
    assert alone.teacher_flops == 0
    with pytest.raises(ValueError, match="fewer than the 50,000 of the warm-up"):  # stretched too
        plan(file, noise, recipe=recipe("BiT-S").distillation(), teacher=teacher)


def test_the_default_rule_is_patient(noise):
    """A small set's 500 steps (warm-up 100, decays 200, 300, 400) ten times, uniformly mixed."""
    decays = (2_000, 3_000, 4_000)
    assert default_rule("BiT-XS-R26x0.25", noise, distilled=True) == HyperRule(
        5_000, 128, 0.1, 1_000, decays, resize=36, crop=32, mixup_alpha=1.0
    )
    assert default_rule("BiT-M-R50x1", noise, distilled=True) == HyperRule(
        5_000, 512, 0.003, 1_000, decays, resize=160, crop=128, mixup_alpha=1.0
    )


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The folder of a finished run on digits."""
    folder = tmp_path_factory.mktemp("runs") / "teacher"
    rule = RULE.replace(steps=1, base_lr=0.01, mixup_alpha=0.0)
    model = named_weights(bit_keras.ResNetV2(*TINY, 0, name="trained"))
    train, _ = data.digits(5)
    bit_keras.fine_tune(model, train, workdir=folder, rule=rule)
    return folder


@pytest.mark.slow
def test_a_finished_run_teaches_by_command(file, finished, tmp_path):
    done = finetune(
        *(f"--model={file}", f"--teacher={finished}", "--temperature=2", "--steps=2"),
        *("--batch=8", "--resize=36", "--crop=32", "--logdir=out", "--name=student"),
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert f"mixup 1.\nTeacher: {finished}.\nRun: " in done.stdout
    config = json.loads((tmp_path / "out/student/config.json").read_text())
    assert config["teacher"]["model"] == str(finished)
    assert config["teacher"]["temperature"] == 2
    assert config["loss"] == "softmax"
    metrics = json.loads((tmp_path / "out/student/metrics.json").read_text())
    assert metrics["num_test"] == 1697


def test_the_classes_beside_a_teacher_must_be_those_of_the_images(finished):
    digits, _ = data.digits(5)
    opened = open_teacher(finished, 1.0, images=digits, crop=32)
    assert opened.model.output_shape == (None, 10)
    pixels, labels = np.zeros((10, 32, 32, 3), np.uint8), np.arange(10)
    letters, _ = data.from_arrays(
        pixels, labels, test=(pixels, labels), class_names=[*"abcdefghij"]
    )
    with pytest.raises(ValueError, match=r"got 10 classes that differ of .*; fine-tune it on"):
        open_teacher(finished, 1.0, images=letters, crop=32)
    (finished / "labels.txt").rename(finished / "hidden")  # config.json knows them too
    with pytest.raises(ValueError, match="got 10 classes that differ"):
        open_teacher(finished, 1.0, images=letters, crop=32)
    (finished / "hidden").rename(finished / "labels.txt")


def test_a_published_teacher_has_the_classes_of_wordnet(tmp_path, monkeypatch):
    """In the order of TFDS; its file, in the cache as if it was fetched, has no names."""
    monkeypatch.setenv("BIT_KERAS_CACHE", str(tmp_path))
    monkeypatch.setenv("BIT_KERAS_BASE_URL", "http://127.0.0.1:9/")  # where nobody listens
    name, lemmas = "distill/R50x1_224", tmp_path / "ilsvrc2012_wordnet_lemmas.txt"
    nouns = ["tench, Tinca_tinca", *(f"thing_{i}, res_{i}" for i in range(1, 1000))]
    lemmas.write_text("\n".join(nouns) + "\n")
    small = {"units": (1,), "width": 0.25}  # it is opened ten times
    monkeypatch.setitem(PUBLISHED, name, PUBLISHED[name].replace(**small))
    zeros = bit_keras.ResNetV2(*small.values(), 1000, kernel_initializer="zeros")
    file = tmp_path / f"{name}.npz"
    file.parent.mkdir()
    save_npz(file, {v.path: v.numpy() for v in zeros.variables})

    def opened(class_names, teacher=name):
        pixels, labels = np.zeros((1000, 1, 1, 3), np.uint8), np.arange(1000)
        test = pixels, labels
        images, _ = data.from_arrays(pixels, labels, test=test, class_names=class_names)
        return open_teacher(teacher, 1.0, images=images, crop=224)

    ids = tfds.builder("imagenet2012").info.features["label"].names
    spoken = ["tench", *(f"res {i}" for i in range(1, 1000))]
    assert opened(ids).name == opened(spoken).name == opened(nouns).name == name
    with pytest.raises(
        ValueError, match=r"^class 0 of the .*_224 is n01440764 or tench, Tinca_tin"
    ):
        opened(sorted(spoken))
    swapped = [*ids[:500], ids[501], ids[500], *ids[502:]]
    with pytest.raises(ValueError, match=rf"class 500 .* it is '{ids[501]}'; name the images' cla"):
        opened(swapped)
    with pytest.raises(ValueError, match=r"of arrays/train it is '0'; name the images' classes"):
        opened(None)
    assert opened(sorted(spoken), file).name == str(file)  # the user's own has unknown classes

    lemmas.unlink()
    assert opened(ids).name == name
    with pytest.raises(
        ValueError, match=r"^class 0 of .* is n01440764, and .* it is 'tench'; name"
    ):
        opened(spoken)


def test_a_run_goes_on_with_its_own_teacher_only(noise, teacher, tmp_path, monkeypatch):
    def die(*_, **__):
        raise KeyboardInterrupt

    def student_of(teacher, temperature=1.0):
        model = witness("small", 0)
        return bit_keras.fine_tune(
            *(model, noise),
            workdir=tmp_path / "run",
            rule=RULE,
            teacher=teacher,
            temperature=temperature,
            export=False,
        )

    monkeypatch.setattr(bit_keras.classification.task, "write_run_report", die)
    with pytest.raises(KeyboardInterrupt):
        student_of(teacher)
    monkeypatch.undo()
    twin = keras.models.clone_model(teacher)
    twin.set_weights([weight + 0.01 for weight in teacher.get_weights()])
    with pytest.raises(ValueError, match=r"differs in teacher.fingerprint \("):
        student_of(twin)
    with pytest.raises(ValueError, match=r"differs in teacher.temperature \(1.0 there, 2 here\)"):
        student_of(teacher, 2)
    with pytest.raises(ValueError, match=r"teacher.model \('expert' there, 'unset' here\)"):
        student_of(None)
    assert student_of(teacher).metrics["steps"] == 4


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"teacher": "BiT-XS-R26x0.25"}, "BiT-XS-R26x0.25 has no head.*fine-tune it on"),
        ({"teacher": "BiT-M-R50"}, "no model named 'BiT-M-R50'"),
        ({"teacher": "expert", "temperature": 0}, "temperature must be from 0.001 to 1,000, got 0"),
        ({"temperature": 2.0}, "temperature is for the answers of a teacher"),
        ({"teacher": "expert", "trainable": "head"}, "a head alone is trained on their features"),
    ],
)
def test_mistakes_are_answered_before_anything_is_written(noise, tmp_path, settings, message):
    with pytest.raises(ValueError, match=message):
        bit_keras.fine_tune(
            *(witness("small", 0), noise), workdir=tmp_path / "run", rule=RULE, **settings
        )
    assert not (tmp_path / "run").exists()


def test_teachers_of_other_classes_or_sizes_are_refused(noise, tiny):
    with pytest.raises(ValueError, match=r"the 3 classes of .* got 5 classes of tiny; fine-tune"):
        open_teacher(tiny, 1.0, images=noise, crop=32)
    with pytest.raises(ValueError, match=r"images of 48 x 48 pixels, and .* takes only 32 x 32"):
        open_teacher(small_student(), 1.0, images=noise, crop=48)


MIRRORED = """
import sys
import numpy as np, tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
import bit_keras
from conftest import named_weights

pixels = np.random.default_rng(0).integers(0, 256, (24, 40, 40, 3), dtype=np.uint8)
labels = np.arange(24) % 3
images, _ = bit_keras.data.from_arrays(pixels, labels, test=(pixels, labels))
teacher = named_weights(bit_keras.ResNetV2((1, 1, 1, 1), 0.25, 3, name="teacher"))
rule = bit_keras.HyperRule(3, 8, 0.05, 0, (), 36, 32, 1.0)
weights = []
for strategy in ("single", "mirrored"):
    student = named_weights(bit_keras.ResNetV2((1,), 0.25, 0, name="student"))
    result = bit_keras.fine_tune(
        student, images, workdir=f"{sys.argv[1]}/{strategy}", rule=rule, teacher=teacher,
        strategy=strategy, export=False,
    )
    weights.append(result.model.get_weights())
start = named_weights(bit_keras.ResNetV2((1,), 0.25, 3)).get_weights()
assert max(np.abs(a - b).max() for a, b in zip(start, weights[0])) > 1e-3
for a, b in zip(*weights):
    assert np.abs(a - b).max() < 1e-4 * max(np.abs(a).max(), 1e-3)
"""


@pytest.mark.slow
def test_two_replicas_learn_what_one_does(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", MIRRORED, tmp_path],
        cwd=pathlib.Path(__file__).parent,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    configs = [(tmp_path / name / "config.json").read_text() for name in ("single", "mirrored")]
    assert configs[0] == configs[1]


def test_a_teacher_by_name_has_the_runs_precision(file, noise, tmp_path, monkeypatch):
    opened = []
    monkeypatch.setattr(
        bit_keras.classification.task,
        "open_teacher",
        lambda *a, **k: opened.append(open_teacher(*a, **k)) or opened[0],
    )
    result = bit_keras.fine_tune(
        *(file, noise),
        workdir=tmp_path / "run",
        rule=RULE.with_steps(2),
        teacher=file,
        precision="mixed_float16",
        trainable="from:block4",
        export=False,
    )
    assert result.metrics["steps"] == 2
    assert opened[0].model.get_layer("block1").compute_dtype == "float16"
