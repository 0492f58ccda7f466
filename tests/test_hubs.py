"""Weights on Hugging Face and on TF-Hub, from a server that answers as theirs do."""

import hashlib
import http.server
import os
import subprocess
import sys
import tarfile
import threading

import pytest
from test_interop import assert_same_weights, save_module, weights

import bit_keras
from bit_keras.checkpoints import DownloadError, save_transformers


@pytest.fixture
def arrays(tiny):
    return weights(tiny)


@pytest.fixture
def hub(tmp_path):
    """A folder on a server that answers as Hugging Face's and TF-Hub's do: its URL and its path."""
    folder = tmp_path / "hub"
    folder.mkdir()

    class Hub(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *arguments):
            super().__init__(*arguments, directory=folder)

        def end_headers(self):
            if "/resolve/" in self.path:
                commit = hashlib.sha1(self.path.encode()).hexdigest()
                self.send_header("X-Repo-Commit", commit)
                self.send_header("ETag", f'"{commit}"')
            super().end_headers()

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", folder
        server.shutdown()


def test_hugging_face_repositories_load_by_name(hub, arrays, tmp_path):
    url, folder = hub
    save_transformers(folder / "me/bit/resolve/main", arrays, groups=8)
    fewer = {name: array for name, array in arrays.items() if not name.startswith("head/")}
    save_transformers(folder / "me/bit/resolve/v1", fewer, groups=8)
    program = """
import bit_keras
for source in ("hf://me/bit", "hf://me/bit@v1"):
    model = bit_keras.load(source)
    print(model.name, len(model.variables), float(model.variables[0].numpy().sum()))
try:
    bit_keras.load("hf://me/none")
except bit_keras.checkpoints.DownloadError as error:
    print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "HF_ENDPOINT": url, "HF_HOME": str(tmp_path / "cache")},
        capture_output=True,
        text=True,
        check=True,
    )
    first, second, error = done.stdout.splitlines()
    total = float(arrays["root_block/standardized_conv2d/kernel"].sum())
    assert first == f"bit {len(arrays)} {total}"
    assert second == f"bit {len(fewer)} {total}"
    assert error.startswith("cannot fetch model.safetensors of hf://me/none (")


@pytest.mark.parametrize("handle", ["bit/tiny/1", "tiny.tar.gz"])
def test_tf_hub_handles_are_resolved_and_cached(handle, hub, arrays, tmp_path, monkeypatch):
    url, folder = hub
    monkeypatch.setenv("TFHUB_CACHE_DIR", str(tmp_path / "cache"))
    save_module(tmp_path / "served", arrays)
    (folder / handle).parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(folder / handle, "w:gz") as archive:
        archive.add(tmp_path / "served", arcname=".")
    assert_same_weights(bit_keras.load(f"{url}/{handle}"), arrays)
    (folder / handle).unlink()
    assert_same_weights(bit_keras.load(f"{url}/{handle}"), arrays)  # from the cache
    with pytest.raises(DownloadError, match=r"cannot fetch http://.*/none as a TF-Hub module \("):
        bit_keras.load(f"{url}/none")
