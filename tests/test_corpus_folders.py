"""Every folder of class folders of the corpus: how many images it has, or the refusal."""

import numpy as np
import pytest
from corpus.folders import FOLDERS

from bit_keras import data
from bit_keras.data.sources.finding import find_images


@pytest.mark.parametrize("name", FOLDERS)
def test_a_folder_is_read_or_refused_in_a_sentence(tmp_path, monkeypatch, name):
    monkeypatch.setenv("BIT_KERAS_CACHE", str(tmp_path / "cache"))
    folder = FOLDERS[name]
    folder.write(tmp_path / name)
    if isinstance(folder.expected, str):
        with pytest.raises(data.DataError, match=folder.expected) as error:
            data.from_directory(tmp_path / name)
        assert "\n" not in str(error.value)
        return
    train, test = data.from_directory(tmp_path / name)
    counts = sum(np.bincount(part.labels, minlength=part.num_classes) for part in (train, test))
    assert dict(zip(train.class_names, counts.tolist(), strict=True)) == folder.expected


@pytest.mark.parametrize("name", ["ring", "web"])
def test_a_glob_of_any_depth_ends(tmp_path, monkeypatch, name):
    FOLDERS[name].write(tmp_path / name)
    monkeypatch.chdir(tmp_path / name)
    count = sum(FOLDERS[name].expected.values())
    for pattern in ("**", "**/*.png", f"{tmp_path}/**/*.png", "**/**", "*/**"):
        assert len(find_images([pattern])) == count, pattern
    assert len(find_images(["a/**"])) == FOLDERS[name].expected["a"]
