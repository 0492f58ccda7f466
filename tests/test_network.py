"""Slow, silent and wrong servers end in one sentence; offline means offline; sums can be pinned."""

import contextlib
import hashlib
import http.server
import os
import socket
import subprocess
import sys
import threading
import time

import pytest
from light_import import LIGHT
from misbehaving_server import BODY, serving

from bit_keras.checkpoints import DownloadError, download, fetch, fetch_tf_hub
from bit_keras.checkpoints.patience import patience
from bit_keras.data import DataError, from_tfds, from_vtab

NAME = "BiT-M-R50x1.npz"


def silent(connection):
    connection.recv(65536)


def drips_headers(connection):
    connection.recv(65536)
    for byte in b"HTTP/1.1 200 OK\r\nX-Long: " + b"x" * 1000:
        connection.sendall(bytes([byte]))
        time.sleep(0.1)


def drips_its_body(connection):
    connection.recv(65536)
    head = b'HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\nETag: "1"\r\nX-Repo-Commit: '
    connection.sendall(head + b"0" * 40 + b"\r\n\r\n")
    for _ in range(1000):
        connection.sendall(b"P")
        time.sleep(0.1)


@pytest.fixture(params=[silent, drips_headers, drips_its_body])
def slow_site(request):
    """The URL of a server that accepts connections and keeps them waiting."""
    over, kept = threading.Event(), []

    def answer(connection):
        with contextlib.suppress(OSError):
            request.param(connection)
        over.wait(60)

    def accept(server):
        with contextlib.suppress(OSError):
            while True:
                kept.append(server.accept()[0])
                threading.Thread(target=answer, args=(kept[-1],), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=accept, args=(server,), daemon=True).start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}"
        over.set()
        for connection in kept:
            connection.close()


@pytest.fixture(autouse=True)
def near_and_quick(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setenv("BIT_KERAS_TIMEOUT", "0.5")
    monkeypatch.setattr(download, "RETRY_DELAYS", (0.01, 0.01, 0.01))


SLOW = r"less than 1,024 bytes a second came for .* s; BIT_KERAS_TIMEOUT sets another time"


def test_a_slow_server_is_given_up(slow_site, tmp_path):
    start = time.monotonic()
    with pytest.raises(DownloadError, match=rf"^cannot download .* \({SLOW}\): check the network"):
        fetch(NAME, base_url=slow_site, cache_dir=tmp_path)
    assert time.monotonic() - start < 20


def test_a_slow_hub_of_tensorflow_is_given_up(slow_site, tmp_path, monkeypatch):
    monkeypatch.setenv("TFHUB_CACHE_DIR", str(tmp_path))
    with pytest.raises(DownloadError, match=rf"^cannot fetch .* as a TF-Hub module \({SLOW}\)"):
        fetch_tf_hub(f"{slow_site}/bit/m-r50x1/1")


def hugging_face(tmp_path, **variables):
    """What is printed where a repository is fetched in a process of its own."""
    code = f"""{LIGHT}
from bit_keras.checkpoints import DownloadError, fetch_hugging_face
try:
    print(fetch_hugging_face("me/bit"))
except DownloadError as error:
    print(error)
"""
    env = {**os.environ, "HF_HOME": str(tmp_path / "hf"), **variables}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_a_slow_hugging_face_is_given_up(slow_site, tmp_path):
    said = hugging_face(tmp_path, HF_ENDPOINT=slow_site, BIT_KERAS_TIMEOUT="1")
    assert said.startswith("cannot fetch model.safetensors of hf://me/bit (less than 1,024 bytes")


@pytest.mark.parametrize("text", ["0", "-1", "nan", "soon", "1e9"])
def test_the_time_is_a_number(monkeypatch, tmp_path, text):
    monkeypatch.setenv("BIT_KERAS_TIMEOUT", text)
    with pytest.raises(ValueError, match=f"BIT_KERAS_TIMEOUT must be seconds.* got '{text}'"):
        patience()
    with pytest.raises(DownloadError, match="BIT_KERAS_TIMEOUT must be seconds"):
        fetch(NAME, base_url="http://127.0.0.1:9", cache_dir=tmp_path)


@pytest.fixture
def no_network(monkeypatch):
    """Every connection is an error of the test."""
    monkeypatch.setenv("BIT_KERAS_OFFLINE", "1")

    def refuse(*arguments, **options):
        raise AssertionError(f"the network was used: {arguments}")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


FORBIDDEN = "would have to be fetched, and BIT_KERAS_OFFLINE forbids it"


def test_offline_no_published_file_is_fetched(no_network, tmp_path):
    with pytest.raises(DownloadError, match=rf"^http://example.org/{NAME} \(to .*\) {FORBIDDEN}"):
        fetch(NAME, base_url="http://example.org/", cache_dir=tmp_path)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / NAME).write_bytes(BODY)
    assert fetch(NAME, base_url="http://example.org/", cache_dir=tmp_path).read_bytes() == BODY


def test_offline_no_module_is_fetched(no_network, tmp_path, monkeypatch):
    monkeypatch.setenv("TFHUB_CACHE_DIR", str(tmp_path))
    url = "https://tfhub.dev/google/bit/m-r50x1/1"
    with pytest.raises(DownloadError, match=rf"^{url} \(to .*\) {FORBIDDEN}"):
        fetch_tf_hub(url)
    folder = tmp_path / hashlib.sha1(url.encode()).hexdigest()
    folder.mkdir()
    (folder / "saved_model.pb").write_bytes(b"")
    assert fetch_tf_hub(url) == folder


def test_offline_no_repository_is_fetched(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        endpoint = f"http://127.0.0.1:{port}"
        said = hugging_face(tmp_path, HF_ENDPOINT=endpoint, BIT_KERAS_OFFLINE="1")
        server.settimeout(0.1)
        with pytest.raises(TimeoutError):
            server.accept()
    assert said.startswith("hf://me/bit (to ")
    assert FORBIDDEN in said


@pytest.mark.parametrize(("read", "name"), [(from_tfds, "cifar10"), (from_vtab, "svhn")])
def test_offline_no_data_set_is_fetched(no_network, tmp_path, read, name):
    with pytest.raises(DataError, match=rf"^\w+ \(to .*\) {FORBIDDEN}"):
        read(name, data_dir=tmp_path)


@pytest.mark.parametrize("name", ["huggingface:glue", "kubric:movi_a/128x128", "cifer10"])
def test_no_program_of_a_data_set_is_fetched(no_network, monkeypatch, name):
    from tensorflow_datasets.core import community

    def refuse():
        raise AssertionError("TFDS looks for data sets of communities, in C++ and so unseen")

    monkeypatch.setattr(community, "community_register", refuse)
    monkeypatch.delenv("BIT_KERAS_OFFLINE")
    with pytest.raises(DataError, match=f"^{name} is a data set that others wrote|did you mean"):
        from_tfds(name)


@pytest.mark.slow
def test_offline_a_suite_asks_for_nothing(no_network, tmp_path):
    from bit_keras.classification.vtab import MissingTasksError, run_vtab

    with pytest.raises(MissingTasksError, match="19 of 19 tasks could not be run"):
        run_vtab(
            "BiT-XS-R26x0.25",
            workdir=tmp_path / "run",
            read=lambda name: from_vtab(name, data_dir=tmp_path / "tfds"),
        )


def test_hosts_that_cannot_be_found_are_looked_for_briefly(tmp_path, monkeypatch):
    """A look-up without an answer takes its system minutes, for each of the hosts of 19 tasks."""
    from bit_keras.data.sources import tfds_builders

    monkeypatch.setattr(tfds_builders, "_FIRST_LOOK_UP", 0.2)
    monkeypatch.setattr(tfds_builders, "_LOOK_UP", 0.1)
    monkeypatch.setattr(tfds_builders, "_MISSED", set())
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: time.sleep(30))
    for variable in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy"):
        monkeypatch.delenv(variable, raising=False)
    builder = tfds_builders.open_builder("cifar10", tmp_path)
    start = time.monotonic()
    assert tfds_builders._unreachable_hosts(builder) == ["www.cs.toronto.edu"]
    assert tfds_builders._unreachable_hosts(builder) == ["www.cs.toronto.edu"]
    assert time.monotonic() - start < 5


@pytest.fixture
def pins(tmp_path, monkeypatch):
    def write(text):
        (tmp_path / "sums.txt").write_text(text)
        monkeypatch.setenv("BIT_KERAS_SHA256", str(tmp_path / "sums.txt"))

    return write


def test_sums_are_pinned_by_a_file(pins, tmp_path):
    good, bad = hashlib.sha256(BODY).hexdigest(), "0" * 64
    with serving() as site:
        where = {"base_url": site.url, "cache_dir": tmp_path / "cache"}
        pins(f"{good}  ./{NAME}\n{bad} *vtab/other.npz\n")
        assert fetch(NAME, **where).read_bytes() == BODY
        with pytest.raises(DownloadError, match=f"expected {bad}: .* the download was not kept"):
            fetch("vtab/other.npz", **where)
        assert fetch("third.npz", **where).read_bytes() == BODY  # is not listed
        pins(f"{bad}  {NAME}\n")
        with pytest.raises(DownloadError, match=f"has SHA-256 {good}, expected {bad}: delete it"):
            fetch(NAME, **where)
        assert fetch(NAME, **where, sha256=good).read_bytes() == BODY  # the call says otherwise


@pytest.mark.parametrize("text", ["hello\n", "123  x.npz\n", "\0\n"])
def test_a_list_of_sums_must_be_one(pins, tmp_path, text):
    pins(text)
    with pytest.raises(DownloadError, match=r"cannot read the checksums in .*sha256sum wrote"):
        fetch(NAME, base_url="http://127.0.0.1:9", cache_dir=tmp_path)
    (tmp_path / "sums.txt").unlink()
    with pytest.raises(DownloadError, match=r"cannot read the checksums in .*No such file"):
        fetch(NAME, base_url="http://127.0.0.1:9", cache_dir=tmp_path)


def test_a_web_page_in_place_of_weights_is_not_kept(tmp_path):
    with serving() as site:
        site.body = b"\n<!DOCTYPE html><html><body>Please log in</body></html>"
        with pytest.raises(DownloadError, match=r"answers with a web page instead of the file: lo"):
            fetch(NAME, base_url=site.url, cache_dir=tmp_path)
    assert [path.suffix for path in tmp_path.iterdir()] == [".lock"]


def test_redirects_without_end_are_one_sentence(tmp_path):
    class Circle(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(302)
            self.send_header("Location", "/again")
            self.end_headers()

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Circle) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with pytest.raises(DownloadError, match=r"cannot be downloaded \(302 ") as error:
            fetch(NAME, base_url=f"http://127.0.0.1:{server.server_port}", cache_dir=tmp_path)
        server.shutdown()
    assert "\n" not in str(error.value)
