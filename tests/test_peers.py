"""timm and transformers, each in its own process, against bit_keras: `make test-peers`.

PEERS_PYTHON is a Python with torch, timm and transformers.
"""

import os
import pathlib
import subprocess

import numpy as np
import pytest
from conftest import named_weights

import bit_keras
from bit_keras.checkpoints import save_timm, save_transformers

PROGRAM = pathlib.Path(__file__).with_name("peer_program.py")
PEERS_PYTHON = os.environ.get("PEERS_PYTHON")
pytestmark = [
    pytest.mark.peers,
    pytest.mark.skipif(not PEERS_PYTHON, reason="PEERS_PYTHON is not set; run make test-peers"),
]


def run_peer(action, peer, folder, size):
    answers = folder.with_suffix(".npz")
    command = [PEERS_PYTHON, PROGRAM, action, peer, folder, str(size), answers]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return np.load(answers)


def assert_same_answers(model, answers):
    found = np.array(model((answers["images"] + 1) / 2))
    assert np.abs(answers["logits"]).max() > 0.1
    np.testing.assert_allclose(found, answers["logits"], rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    ("depth", "width", "size"), [(50, 1, 64), (101, 1, 96), (50, 3, 65)], ids=str
)
def test_peers_answer_as_the_model_whose_weights_they_read(depth, width, size, tmp_path):
    model = named_weights(bit_keras.ResNetV2(depth, width, 10))
    for peer, save in (("timm", save_timm), ("transformers", save_transformers)):
        save(tmp_path / peer, {v.path: v.numpy() for v in model.variables})
        assert_same_answers(model, run_peer("read", peer, tmp_path / peer, size))
        (tmp_path / peer / "model.safetensors").unlink()  # of almost a gigabyte


def test_peers_answer_features_where_there_is_no_head(tmp_path):
    model = named_weights(bit_keras.ResNetV2(50, 1, 0))
    for peer, save in (("timm", save_timm), ("transformers", save_transformers)):
        save(tmp_path / peer, {v.path: v.numpy() for v in model.variables})
        assert_same_answers(model, run_peer("read", peer, tmp_path / peer, 64))


@pytest.mark.parametrize(("depth", "width", "groups"), [((2, 1, 3), 0.25, 8), ((1,) * 5, 2, 32)])
def test_transformers_answers_at_other_depths_widths_and_groups(depth, width, groups, tmp_path):
    model = named_weights(bit_keras.ResNetV2(depth, width, 10))
    arrays = {variable.path: variable.numpy() for variable in model.variables}
    save_transformers(tmp_path / "peer", arrays, groups=groups)
    assert_same_answers(model, run_peer("read", "transformers", tmp_path / "peer", 64))


@pytest.mark.parametrize("peer", ["timm", "transformers"])
def test_models_that_peers_wrote_answer_as_they_do(peer, tmp_path):
    answers = run_peer("write", peer, tmp_path / "peer", 64)
    assert_same_answers(bit_keras.load(tmp_path / "peer"), answers)
