"""Numbers at the edge, from flags, Python and the environment: one sentence, and at once."""

import json
import math
import os

import pytest
from test_cli import typed_in_one_process

from bit_keras.classification.pretraining import Plan
from bit_keras.files import cache_dir
from bit_keras.models.spec import ModelSpec
from bit_keras.recipes import DetectionRecipe, HyperRule, recipe
from bit_keras.training import StrategyError, make_strategy

RULE = {
    "steps": 500,
    "batch": 512,
    "base_lr": 0.003,
    "warmup_steps": 100,
    "decay_steps": (200, 300),
    "resize": 160,
    "crop": 128,
    "mixup_alpha": 0.1,
    "cutmix_alpha": 0.0,
}
DETECTION = {
    "epochs": 30,
    "decay_epochs": (16, 22),
    "batch": 256,
    "base_lr": 0.08,
    "warmup_steps": 500,
    "weight_decay": 1e-4,
    "clip_norm": 10.0,
    "size": 1024,
    "scale_jitter": (0.8, 1.25),
}
BEYOND = [math.nan, math.inf, -math.inf, -1, 1e308, 1e39, 10**400, "512", None]


@pytest.mark.parametrize("value", BEYOND)
@pytest.mark.parametrize("field", RULE)
def test_every_number_of_the_rule_is_checked(field, value):
    wrong = (value, *RULE[field][1:]) if isinstance(RULE[field], tuple) else value
    with pytest.raises(ValueError, match=r"^[\w ]+ must .*, got .*\.$"):
        HyperRule(**{**RULE, field: wrong})


@pytest.mark.parametrize("value", BEYOND)
@pytest.mark.parametrize("field", DETECTION)
def test_every_number_of_the_detection_recipe_is_checked(field, value):
    wrong = (value, *DETECTION[field][1:]) if isinstance(DETECTION[field], tuple) else value
    with pytest.raises(ValueError, match=r"must |change both together"):
        DetectionRecipe(**{**DETECTION, field: wrong})


@pytest.mark.parametrize("steps", [0, math.nan, math.inf, 10**400])
def test_schedules_are_not_stretched_beyond_all_bounds(steps):
    with pytest.raises(ValueError, match="steps must be "):
        HyperRule(**RULE).with_steps(steps)
    if steps:
        with pytest.raises(ValueError, match="epochs must be "):
            recipe("BiT-S").with_epochs(steps)


def test_the_sizes_of_a_model_are_bounded():
    with pytest.raises(ValueError, match="test_size must be 16,384 pixels or less, got 2147483648"):
        ModelSpec(test_size=2**31)


def test_a_plan_tells_any_time():
    facts = {"flops": 1, "teacher_flops": 0, "parameters": 1, "epoch_bytes": 1, "memory": 1}
    plan = Plan(steps=9, epochs=1, batch=8, replicas=1, pieces=1, seconds=1e300, **facts)
    assert "more than 1,157,407 days" in str(plan)


@pytest.mark.parametrize("port", ["65536", "0", "99999999999999999999", "²"])
def test_ports_of_workers_are_ports(monkeypatch, port):
    cluster = {"worker": [f"localhost:{port}"]}
    config = {"cluster": cluster, "task": {"type": "worker", "index": 0}}
    monkeypatch.setenv("TF_CONFIG", json.dumps(config))
    with pytest.raises(StrategyError, match="ports of 1 to 65535"):
        make_strategy("multiworker")


def test_a_home_of_nobody_is_taken_as_it_is(monkeypatch):
    monkeypatch.setenv("BIT_KERAS_CACHE", "~nosuchuser/cache")
    assert os.fspath(cache_dir()) == "~nosuchuser/cache"


FINE_TUNING = {
    "--dataset=./no --temperature=nan": "--temperature must be a number",
    "--teacher=BiT-M-R50x1-ILSVRC2012 --temperature=1e308": "--temperature must be a number",
    "--dataset=./no --base_lr=nan": "--base_lr must be a number",
    "--dataset=./no --resize=2147483648": "resize must be 16,384 or less, got 2147483648",
    "--dataset=./no --crop=99999999999999999999": "--crop must be a number up to",
    "--dataset=./no --batch=1000000": "batch must be 131,072 or less, got 1000000",
    "--dataset=./no --batch=1000000000": "batch must be 131,072 or less",
    "--dataset=~nobody/x": "x is not a folder",
    "--dataset=~nosuchuser/x": "nosuchuser/x is not a folder",
    "--dataset=./no --validation=nan": "is not a folder",
    "--flagfile=binary": "a --flagfile cannot be read",
    "--flagfile=missing": "missing",
    "--flagfile=.": ".",
}
OTHERS = {
    "bit_keras.cli.pretrain": {
        "": "name the architecture and the images",
        "--model=R14x0.25 --dataset=./no --throughput=0": "--throughput=0: 0.0 is not",
        "--model=R14x0.25 --dataset=./no --throughput=nan": "--throughput must be a number",
        "--model=R14x0.25 --dataset=./no --crop=2147483648": "crop must be 16,384 or less",
    },
    "bit_keras.cli.predict": {
        "--model=BiT-XS x.png --size=99999999999999999999": "--size must be a number up to",
        "--model=BiT-XS x.png --threshold=nan": "--threshold must be a number",
    },
    "bit_keras.cli.detect": {
        "train --dataset=./no --batch=1000000000": "batch must be 131,072 or less",
        "train --dataset=./no --size=2147483648": "size must be 16,384 or less",
        "train --dataset=./no --channels=2147483648": "--channels",
    },
}


@pytest.mark.parametrize(
    ("command", "lines"), [("bit_keras.cli.finetune", FINE_TUNING), *OTHERS.items()]
)
def test_flags_at_the_edge_get_one_sentence(tmp_path, command, lines):
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00--steps=\x80")
    for (line, message), (code, errors) in zip(
        lines.items(), typed_in_one_process(command, list(lines), tmp_path), strict=True
    ):
        *_, last = errors.splitlines()
        assert (code, last.startswith("error: ")) == (2, True), (line, errors)
        assert message in last, (line, last)
        assert "Traceback" not in errors
