import json
import resource

import keras
import numpy as np
import pytest
from test_training import run, small_model

import bit_keras
from bit_keras.training import RunFolder, RunFolderError


def test_a_checkpoint_holds_every_variable_of_a_model_of_nested_layers(tmp_path):
    folder = RunFolder(tmp_path / "run", {})
    model = bit_keras.ResNetV2((2, 1), 0.25, 3, norm="batch")
    optimizer = keras.optimizers.SGD(0.1, momentum=0.9)
    optimizer.build(model.trainable_variables)
    rng = np.random.default_rng(0)
    for variable in (*model.variables, *optimizer.variables[2:]):
        variable.assign(rng.uniform(size=variable.shape))
    folder.save(model, optimizer, 7)
    twin = bit_keras.ResNetV2((2, 1), 0.25, 3, norm="batch")
    twin_optimizer = keras.optimizers.SGD(0.1, momentum=0.9)
    twin_optimizer.build(twin.trainable_variables)
    assert folder.restore(twin, twin_optimizer) == 7
    for a, b in zip(model.variables, twin.variables, strict=True):
        np.testing.assert_array_equal(a, b)
    for a, b in zip(optimizer.variables, twin_optimizer.variables, strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_folder_belongs_to_one_run(tmp_path):
    run(tmp_path / "run")
    before = (tmp_path / "run/config.json").read_text()
    with pytest.raises(RunFolderError, match=r"differs in steps \(12 there, 13 here\)"):
        RunFolder(tmp_path / "run", {"steps": 13})
    assert (tmp_path / "run/config.json").read_text() == before
    with RunFolder(tmp_path / "run", {"steps": 12}) as folder:
        with pytest.raises(RunFolderError, match="another process is at the run"):
            RunFolder(tmp_path / "run", {"steps": 12})
        folder.finish({"accuracy": 1.0})
    with pytest.raises(RunFolderError, match="finished"):
        RunFolder(tmp_path / "run", {"steps": 12})
    (tmp_path / "many").mkdir()
    RunFolder(tmp_path / "many", {"names": [f"n{i:05}" for i in range(1000)]}).close()
    with RunFolder(tmp_path / "many", {"names": []}, may_grow=True) as folder:
        folder.finish({"accuracy": 1.0})
        folder.record(part=1)
        assert not (tmp_path / "many/metrics.json").exists()  # it is not finished any more
        assert folder.results() == [{"part": 1}]
    with pytest.raises(
        RunFolderError, match=r"names \(\[\] there, \['n00000', .{,50} \.\.\. .*'n00999'\]"
    ):
        RunFolder(tmp_path / "many", {"names": [f"n{i:05}" for i in range(1000)]})
    (tmp_path / "other").mkdir()
    (tmp_path / "other/thesis.doc").write_text("x")
    with pytest.raises(RunFolderError, match="belong to no run"):
        RunFolder(tmp_path / "other", {})
    assert [p.name for p in (tmp_path / "other").iterdir()] == ["thesis.doc"]
    with pytest.raises(RunFolderError, match="must not hold any of"):
        RunFolder(tmp_path / "a[1]", {})


def test_before_its_first_checkpoint_a_run_can_begin_anew(tmp_path):
    RunFolder(tmp_path / "run", {"batch_split": 1, "rule": (1, 2)}).close()
    RunFolder(tmp_path / "run", {"batch_split": 8, "rule": (1, 2)}).close()
    assert json.loads((tmp_path / "run/config.json").read_text())["batch_split"] == 8


def test_a_disk_that_fills_up_costs_no_checkpoint(tmp_path):
    """The limit on a file's size is a full disk that needs no rights: writes fail half-way."""
    model, optimizer = small_model(), keras.optimizers.SGD(0.1)
    optimizer.build(model.trainable_variables)
    with RunFolder(tmp_path / "run", {}) as folder:
        folder.save(model, optimizer, 1)
        before = model.get_weights()
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        model.set_weights([weight + 1 for weight in before])
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
        try:
            with pytest.raises(OSError, match=r"of step 2 cannot be written .*ckpt-1"):
                folder.save(model, optimizer, 2)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert not list((tmp_path / "run/checkpoints").glob("*temp*"))
        assert folder.restore(model, optimizer) == 1
    for a, b in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_damaged_checkpoint_leaves_the_one_before(tmp_path):
    model, optimizer = small_model(), keras.optimizers.SGD(0.1)
    optimizer.build(model.trainable_variables)
    with RunFolder(tmp_path / "run", {}) as folder:
        for step in (1, 2):
            folder.save(model, optimizer, step)
        (data,) = (tmp_path / "run/checkpoints").glob("ckpt-2.data*")
        data.write_bytes(data.read_bytes()[:50])
        assert folder.restore(model, optimizer) == 1


def test_the_checkpoints_of_another_model_are_refused(tmp_path):
    run(tmp_path / "run")
    model = keras.Sequential([keras.Input((6,)), keras.layers.Dense(3)])
    optimizer = keras.optimizers.SGD(0.1)
    optimizer.build(model.trainable_variables)
    with (
        RunFolder(tmp_path / "run", {"steps": 12}) as folder,
        pytest.raises(RunFolderError, match=r"damaged or another model's .* another name"),
    ):
        folder.restore(model, optimizer)
