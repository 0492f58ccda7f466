"""The facts of a model: what they say of its use, and that every file carries them."""

import dataclasses
import json
import pathlib
import re
import zipfile

import keras
import numpy as np
import PIL.Image
import pytest
import yaml
from conftest import named_weights

import bit_keras
from bit_keras.classification import predict_images
from bit_keras.classification.fine_tuning import default_rule
from bit_keras.exporting import FORMATS, open_artifact
from bit_keras.models.resnet_v2 import copied, with_head
from bit_keras.models.spec import ModelSpec, spec_of
from bit_keras.models.spec_files import BESIDE, read_spec

NAMES = ("ant", "bee & wasp", "dög", "<b>eel</b>", '"fly"')
FILES = {"keras": "m.keras", "npz": "m.npz", "litert": "m.tflite", "onnx": "m.onnx"}
SIZES = {32: None, 224: 256}  # and what the short side becomes before the center is cut out


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Files of several shapes, one of them partly transparent."""
    folder = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(0)
    for i, (height, width) in enumerate([(60, 90), (90, 60), (300, 400), (33, 200)] * 4):
        coarse = rng.integers(0, 256, (5, 7, 4 if i == 3 else 3), dtype=np.uint8)
        PIL.Image.fromarray(coarse).resize((width, height)).save(folder / f"{i:02d}.png")
    return folder


def specified(model, loss, size):
    facts = {"class_names": NAMES, "loss": loss, "test_size": size, "test_resize": SIZES[size]}
    model.spec = model.spec.replace(**facts, native_size=32, source="made up", license="MIT")
    return model


@pytest.fixture(scope="module")
def models():
    """The smallest that each format can hold."""
    small = named_weights(bit_keras.ResNetV2((1,), 0.25, 5, name="small"))
    large = bit_keras.ResNetV2(50, 1, 5, kernel_initializer="zeros", name="large")
    large.get_layer("head").conv.bias.assign([2.0, 1, 0, -1, -2])
    return {"timm": large}, small


@pytest.mark.parametrize(
    ("loss", "size"), [("softmax", 32), pytest.param("sigmoid", 224, marks=pytest.mark.slow)]
)
@pytest.mark.parametrize("format", [*FORMATS, "frozen"])
def test_every_format_is_used_as_its_model_without_being_told(
    models, pictures, tmp_path, format, loss, size
):
    special, small = models
    model = specified(special.get(format, small), loss, size)
    path = tmp_path / FILES.get(format, "m")
    options = {"format": "saved_model", "frozen": True} if format == "frozen" else {}
    few = np.zeros((2, 32, 32, 3))
    bit_keras.export(model, path, **{"format": format, "images": few, **options})
    for fact in ("class_names", "loss", "test_size", "test_resize", "source", "license"):
        assert getattr(open_artifact(path).spec, fact) == getattr(model.spec, fact), fact
    files = sorted(pictures.iterdir())[: 4 if format == "timm" else None]
    got, expected = predict_images(path, files), predict_images(model, files)
    for one, other in zip(got, expected, strict=True):
        for found, wanted in zip(one["predictions"], other["predictions"], strict=True):
            assert found["class"] == wanted["class"]
            assert found["probability"] == pytest.approx(wanted["probability"], abs=1e-4)
    total = sum(answer["probability"] for answer in got[0]["predictions"])
    assert (abs(total - 1) < 1e-3) == (loss == "softmax")
    proof = json.loads((tmp_path / f"{path.name}.proof.json").read_text())
    assert (proof["pictures"], proof["classes_agreement"]) == (2, 1)
    assert proof["notice"] == model.spec.notice
    assert LICENSE in written(path)
    assert PAPER in written(path)


LICENSE, PAPER = b"License: MIT, of these weights", b"https://arxiv.org/abs/1912.11370"


def written(path):
    """The bytes of an export: of its file or folder, of the archive in it, of the facts beside."""
    files = [file for file in (path, *path.rglob("*")) if file.is_file()]
    content = [file.read_bytes() for file in files]
    for file in filter(zipfile.is_zipfile, files):
        with zipfile.ZipFile(file) as archive:
            content += map(archive.read, archive.namelist())
    beside = path.with_name(path.name + BESIDE)
    return b"\n".join(content) + (beside.read_bytes() if beside.exists() else b"")


def test_a_notice_tells_what_is_known_and_cites_the_paper():
    derived = bit_keras.models.published.PUBLISHED["BiT-M-R50x1"].with_classes(3)
    derived = derived.replace(source="BiT-M-R50x1 (pretrained), fine-tuned on photos")
    model, license, paper, software = derived.notice.splitlines()
    assert model == "Model: BiT-M-R50x1, BiT-M-R50x1 (pretrained), fine-tuned on photos"
    assert license.startswith("License: Apache-2.0, of these weights or of those that they derive ")
    assert software == "Software: bit_keras, Apache-2.0"
    citation = yaml.safe_load((pathlib.Path(__file__).parents[1] / "CITATION.cff").read_text())
    cited = citation["preferred-citation"]
    authors = [author["family-names"] for author in cited["authors"]]
    assert re.findall(r"[A-Z]\. (\w+)", paper) == authors
    for part in (cited["title"], str(cited["year"]), cited["url"]):
        assert part in paper
    assert (citation["title"], citation["license"]) == ("bit_keras", "Apache-2.0")
    unknown = ModelSpec(name="mine").notice.splitlines()
    assert unknown[:2] == [
        "Model: mine",
        "License: unknown; ask those who trained it; keep this notice with every copy",
    ]


def test_an_export_without_its_facts_is_refused(models, tmp_path, monkeypatch):
    from bit_keras.exporting import onnx

    monkeypatch.setattr(onnx, "_write", _without_metadata(onnx._write))
    model = specified(models[1], "sigmoid", 32)
    with pytest.raises(
        bit_keras.exporting.ExportError, match="the export says None of num_classes"
    ):
        bit_keras.export(model, tmp_path / "m.onnx", "onnx")
    assert not list(tmp_path.iterdir())


def _without_metadata(write):
    def forgetful(path, written, constants):
        del written.metadata_props[:]
        write(path, written, constants)

    return forgetful


def test_flags_replace_facts(models, pictures, tmp_path):
    model = specified(models[1], "softmax", 32)
    options = {"labels": list("abcde"), "multi_label": True, "size": 64}
    bit_keras.export(model, tmp_path / "m.onnx", "onnx", **options)
    spec = open_artifact(tmp_path / "m.onnx").spec
    assert (spec.class_names, spec.loss) == (tuple("abcde"), "sigmoid")
    assert (spec.test_size, spec.test_resize) == (64, None)
    told = predict_images(
        *(tmp_path / "m.onnx", pictures / "00.png"), labels=NAMES, size=32, multi_label=False
    )
    assert told[0]["predictions"][0] == pytest.approx(
        predict_images(model, pictures / "00.png")[0]["predictions"][0], abs=1e-5
    )


def test_facts_are_saved_by_keras_and_follow_the_body(models, tmp_path):
    model = specified(models[1], "sigmoid", 224)
    model.save(tmp_path / "m.keras")
    plain = keras.saving.load_model(tmp_path / "m.keras")
    assert plain.spec == bit_keras.load(tmp_path / "m.keras").spec == model.spec
    assert read_spec(tmp_path / "m.keras") == model.spec
    assert copied(model).spec == model.spec
    headed = with_head(model, 7).spec
    assert (headed.num_classes, headed.class_names, headed.loss) == (7, None, None)
    assert (headed.native_size, headed.source) == (32, "made up")
    assert ModelSpec.from_json('{"loss": "softmax", "of_the_future": 1}').loss == "softmax"


def test_a_plain_model_tells_what_its_shapes_tell():
    images = keras.Input((40, 40, 3))
    plain = keras.Model(images, keras.layers.Dense(3)(keras.layers.Flatten()(images)))
    spec = spec_of(plain)
    assert (spec.num_classes, spec.test_size, spec.class_names) == (3, 40, None)


@pytest.mark.parametrize(
    ("native", "image", "sizes"),
    [
        (32, 28, (36, 32)),  # 128 is four times as large
        (32, 300, (36, 32)),
        (64, 28, (160, 128)),
        (64, 300, (72, 64)),
        (128, 300, (144, 128)),
        (224, 28, (160, 128)),
        (224, 300, (512, 480)),
        (None, 300, (512, 480)),
    ],
)
def test_the_native_resolution_decides_where_it_is_far_from_the_rules(native, image, sizes):
    images, _ = bit_keras.data.from_arrays(
        np.zeros((4, image, image, 3), np.uint8), np.array([0, 1, 0, 1])
    )
    rule = ModelSpec(native_size=native).rule_for(images)
    assert (rule.resize, rule.crop) == sizes


def test_a_model_pretrained_here_is_fine_tuned_at_its_own_size(tmp_path):
    """From a run's folder, its model and its best checkpoint alike, by whatever name."""
    train, test = bit_keras.data.digits(5)
    few = test.subset(range(40))
    file = tmp_path / "mine.npz"
    bit_keras.export(bit_keras.ResNetV2((1,), 0.25, 0), file, "npz")
    recipe = bit_keras.recipes.upstream.UpstreamRecipe(1, (), "softmax", 10, warmup_steps=0)
    recipe = recipe.replace(crop=32, test_resize=36)
    run = tmp_path / "upstream"
    bit_keras.pretrain(file, train, few, workdir=run, recipe=recipe, validation=few)
    for source in (run, run / "model", run / "checkpoints/best.keras"):
        rule = default_rule(source, train)
        assert (rule.resize, rule.crop) == (36, 32)
        assert read_spec(source if source != run else run / "model").test_resize == 36
    model = bit_keras.load(run)
    assert model.spec.class_names == train.class_names
    tuned = tmp_path / "tuned"
    result = bit_keras.fine_tune(
        run, train, few, workdir=tuned, rule=default_rule(run, train).with_steps(1)
    )
    assert (result.model.spec.native_size, result.model.spec.test_resize) == (32, None)
    assert "fine-tuned on digits/train" in result.model.spec.source


def test_an_export_that_names_pictures_wrongly_is_refused(models, tmp_path, monkeypatch):
    """Logits are right, and what the file makes of pictures by itself is not."""
    from bit_keras.exporting import formats, saved_model

    opened = saved_model.open_saved_model

    def misnaming(path):
        artifact = opened(path)

        def classify(encoded):
            names, sure = artifact.classify(encoded)
            return names[:, ::-1], sure

        return dataclasses.replace(artifact, classify=classify)

    wrong = dataclasses.replace(formats.FORMATS["saved_model"], opener=misnaming)
    monkeypatch.setitem(formats.FORMATS, "saved_model", wrong)
    model = specified(models[1], "softmax", 32)
    with pytest.raises(bit_keras.exporting.ExportError, match=r"refused: .* pictures get the same"):
        bit_keras.export(model, tmp_path / "m")
    assert not list(tmp_path.iterdir())
