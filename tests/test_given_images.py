"""Files, folders and globs."""

import os

from bit_keras.data.sources.finding import find_images


def test_files_folders_and_globs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("b/2.PNG", "b/1.jpg", "b/.hidden.png", "b/notes.txt", "b/c/deep.webp", "a[1].bmp"):
        os.makedirs(os.path.dirname(name) or ".", exist_ok=True)
        open(name, "w").close()
    assert find_images(["b"]) == ["b/1.jpg", "b/2.PNG"]
    assert find_images(["b/notes.txt", "b/2.PNG", "b"]) == ["b/notes.txt", "b/2.PNG", "b/1.jpg"]
    assert find_images(["b/**"]) == ["b/1.jpg", "b/2.PNG", "b/c/deep.webp"]
    assert find_images(["a[1].bmp", "*/1.*"]) == ["a[1].bmp", "b/1.jpg"]
