"""Every detection data set of the corpus: the boxes that it has, or the refusal."""

import os

import numpy as np
import pytest
from corpus.annotations import SETS

from bit_keras import data


@pytest.mark.parametrize("name", SETS)
def test_a_set_is_read_or_refused_in_a_sentence(tmp_path, monkeypatch, name):
    root = tmp_path / "in" / "all"
    root.mkdir(parents=True)
    monkeypatch.chdir(root)
    SETS[name].write(root)
    path, expected = (
        str(root / "all.json" if name.startswith("coco") else root),
        SETS[name].expected,
    )
    if isinstance(expected, str):
        with pytest.raises(data.DataError, match=expected) as error:
            data.evaluation_boxes(path)
        assert "\n" not in str(error.value)
        assert len(str(error.value)) < 2_000
        with pytest.raises(data.DataError, match=expected):
            data.boxes_from_name(path)
    else:
        np.testing.assert_allclose(data.evaluation_boxes(path).boxes, expected, atol=1e-5)
    assert "canary" not in os.listdir(root)
