"""Fetching published files, from real servers that misbehave in the ways servers do."""

import functools
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time

import pytest
from light_import import LIGHT
from misbehaving_server import BODY, closed_port, serving

from bit_keras.checkpoints import DownloadError, download, fetch

NAME = "BiT-M-R50x1.npz"
OTHER_BODY = random.Random(1).randbytes(3_000_000)
CUT = 1_234_567


@pytest.fixture
def site():
    with serving() as site:
        yield site


@pytest.fixture(autouse=True)
def near_and_quick(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(download, "RETRY_DELAYS", (0.01, 0.01, 0.01))


@pytest.fixture
def get(site, tmp_path):
    return functools.partial(fetch, NAME, base_url=site.url, cache_dir=tmp_path)


def sha256(data):
    return hashlib.sha256(data).hexdigest()


def files(folder):
    return sorted(path.name for path in folder.iterdir() if path.suffix != ".lock")


def child(arguments, before="pass", **options):
    """A real process that fetches; it imports the module by itself to start at once."""
    module = "from bit_keras.checkpoints import download"
    code = f"{LIGHT}; {module}; {before}; print(download.fetch({NAME!r}, {arguments}))"
    return subprocess.Popen([sys.executable, "-c", code], text=True, **options)


def wait_until(condition):
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)


def test_a_file_is_fetched_once_and_its_checksum_recorded(site, get, tmp_path, capsys):
    path = get()
    assert path == tmp_path / NAME
    assert path.read_bytes() == BODY
    assert files(tmp_path) == [NAME, f"{NAME}.sha256"]
    assert (tmp_path / f"{NAME}.sha256").read_text() == f"{sha256(BODY)}  {NAME}\n"
    assert "3.00M/3.00M" in capsys.readouterr().err  # the progress bar
    assert get() == path
    assert [path for path, _ in site.requests] == [f"/models/{NAME}"]


@pytest.mark.skipif(not shutil.which("sha256sum"), reason="needs sha256sum")
def test_sha256sum_reads_the_record(get, tmp_path):
    get()
    subprocess.run(["sha256sum", "--check", "--strict", f"{NAME}.sha256"], cwd=tmp_path, check=True)


def test_folders_are_kept(site, tmp_path):
    name = "vtab/BiT-M-R50x1-run0-cifar100.npz"
    path = fetch(name, base_url=site.url + "/", cache_dir=tmp_path / "new")
    assert path == tmp_path / "new" / name
    assert path.read_bytes() == BODY
    assert site.requests[0][0] == f"/models/{name}"


@pytest.mark.parametrize("etag", ['"1"', 'W/"1"', None])
def test_a_broken_transfer_is_resumed(site, get, etag):
    site.etag = etag
    site.cuts = [CUT, 1000]
    assert get().read_bytes() == BODY
    assert site.ranges_asked() == [None, f"bytes={CUT}-", f"bytes={CUT + 1000}-"]
    strong = etag if etag == '"1"' else None
    assert [headers["If-Range"] for _, headers in site.requests] == [None, strong, strong]
    assert site.bytes_sent == len(BODY)


def test_a_reset_connection_is_tried_again(site, get):
    site.reset = True
    site.cuts = [CUT, CUT]
    assert get().read_bytes() == BODY
    assert len(site.requests) == 3


def test_a_silent_connection_is_tried_again(site, get, monkeypatch):
    monkeypatch.setenv("BIT_KERAS_TIMEOUT", "0.3")
    site.pause_at = 2_000_000
    assert get().read_bytes() == BODY
    assert len(site.requests) > 1


def test_a_server_need_not_say_the_length(site, get):
    site.lengths = False
    assert get().read_bytes() == BODY


def test_what_came_is_kept_for_the_next_call(site, get, tmp_path):
    site.cuts = [CUT, 0, 0, 0]
    with pytest.raises(DownloadError, match=f"the connection ended after {CUT} of {len(BODY)}"):
        get()
    assert files(tmp_path) == [f"{NAME}.partial", f"{NAME}.partial.json"]
    assert get().read_bytes() == BODY
    assert site.bytes_sent == len(BODY)


def test_a_server_without_ranges_starts_over(site, get):
    site.ranges = False
    site.cuts = [CUT]
    assert get().read_bytes() == BODY
    assert site.ranges_asked() == [None, f"bytes={CUT}-"]
    assert site.bytes_sent == CUT + len(BODY)


def break_off(site, get):
    """Leaves a partial file of `CUT` bytes, by a call whose every transfer breaks off."""
    site.cuts = [CUT, 0, 0, 0]
    with pytest.raises(DownloadError):
        get()
    site.requests.clear()


@pytest.mark.parametrize(
    ("conditions", "etag", "body", "answers"),
    [
        (True, '"2"', OTHER_BODY, 1),  # If-Range answered by the whole new file
        (False, '"2"', OTHER_BODY, 2),  # a range of the new file, given away by its ETag
        (False, '"1"', OTHER_BODY[:-1], 2),  # or by its length
        (False, '"1"', OTHER_BODY[:CUT], 2),  # too short for the range: 416
    ],
)
def test_a_changed_file_starts_over(site, get, conditions, etag, body, answers):
    break_off(site, get)
    site.conditions, site.etag, site.body = conditions, etag, body
    assert get().read_bytes() == body
    assert site.ranges_asked() == [f"bytes={CUT}-", None][:answers]


def test_another_server_starts_over(site, get, tmp_path):
    break_off(site, get)
    site.etag, site.body = None, OTHER_BODY
    path = fetch(NAME, base_url=site.url + "/mirror", cache_dir=tmp_path)
    assert path.read_bytes() == OTHER_BODY
    assert site.ranges_asked() == [None]


def test_a_partial_of_unknown_source_starts_over(site, get, tmp_path):
    (tmp_path / f"{NAME}.partial").write_bytes(OTHER_BODY[:CUT])
    assert get().read_bytes() == BODY
    (tmp_path / NAME).unlink()
    (tmp_path / f"{NAME}.partial").write_bytes(OTHER_BODY[:CUT])
    (tmp_path / f"{NAME}.partial.json").write_text('{"url": "htt')  # itself cut short
    assert get().read_bytes() == BODY
    assert site.ranges_asked() == [None, None]


def test_a_whole_partial_needs_no_transfer(site, get, tmp_path):
    source = {"url": f"{site.url}/{NAME}", "length": len(BODY), "etag": site.etag}
    (tmp_path / f"{NAME}.partial").write_bytes(BODY)
    (tmp_path / f"{NAME}.partial.json").write_text(json.dumps(source))
    assert get().read_bytes() == BODY
    assert not site.requests
    assert files(tmp_path) == [NAME, f"{NAME}.sha256"]


def test_a_wrong_length_is_an_error(site, get, tmp_path):
    site.missing_bytes, site.ranges = 7, False
    with pytest.raises(DownloadError, match=f"ended after {len(BODY)} of {len(BODY) + 7} bytes"):
        get()
    assert NAME not in files(tmp_path)


def test_server_errors_are_tried_again(site, get):
    site.statuses = [500, 503, 429]
    assert get().read_bytes() == BODY
    assert len(site.requests) == 4


def test_lasting_server_errors_end(site, get):
    site.statuses = [500] * 9
    with pytest.raises(DownloadError, match="500 Internal Server Error"):
        get()
    assert len(site.requests) == 1 + len(download.RETRY_DELAYS)


def test_a_missing_file_is_an_error_at_once(site, get, tmp_path):
    site.statuses = [404]
    with pytest.raises(DownloadError, match=rf"{NAME} cannot be downloaded \(404 ") as error:
        get()
    assert str(error.value).startswith(f"{site.url}/{NAME} ")
    assert len(site.requests) == 1
    assert files(tmp_path) == []


@pytest.mark.parametrize("scheme", ["http://", ""])
def test_without_a_network_a_file_can_be_put_by_hand(tmp_path, scheme):
    url = f"{scheme}127.0.0.1:{closed_port()}"
    with pytest.raises(DownloadError) as error:
        fetch(NAME, base_url=url, cache_dir=tmp_path)
    for part in (f"{url}/{NAME}", "BIT_KERAS_BASE_URL", "BIT_KERAS_CACHE", str(tmp_path / NAME)):
        assert part in str(error.value)
    (tmp_path / NAME).write_bytes(BODY)
    assert fetch(NAME, base_url=url, cache_dir=tmp_path) == tmp_path / NAME
    assert (tmp_path / f"{NAME}.sha256").read_text() == f"{sha256(BODY)}  {NAME}\n"
    (tmp_path / NAME).write_bytes(OTHER_BODY)
    with pytest.raises(DownloadError, match=sha256(OTHER_BODY)):
        fetch(NAME, base_url=url, cache_dir=tmp_path)


def test_a_recorded_cache_is_only_read(site, get, tmp_path):
    """So that many users can share one that only its keeper may write."""
    (tmp_path / NAME).write_bytes(BODY)
    (tmp_path / f"{NAME}.sha256").write_text(f"{sha256(BODY)}  {NAME}\n")
    before = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    get()
    assert {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == before


def test_a_changed_file_in_the_cache_is_an_error_until_it_is_deleted(site, get, tmp_path):
    get()
    damaged = bytearray(BODY)
    damaged[CUT] ^= 1
    (tmp_path / NAME).write_bytes(damaged)
    with pytest.raises(DownloadError) as error:
        get()
    for part in (str(tmp_path / NAME), sha256(damaged), sha256(BODY), "delete it"):
        assert part in str(error.value)
    (tmp_path / NAME).unlink()
    assert get().read_bytes() == BODY
    assert len(site.requests) == 2


def test_a_pinned_file_is_fetched(get):
    assert get(sha256=sha256(BODY).upper()).read_bytes() == BODY
    get(sha256=sha256(BODY))


def test_another_file_than_the_pinned_is_not_kept(get, tmp_path):
    with pytest.raises(DownloadError) as error:
        get(sha256=sha256(OTHER_BODY))
    assert sha256(BODY) in str(error.value)
    assert sha256(OTHER_BODY) in str(error.value)
    assert files(tmp_path) == []


def test_a_pin_holds_for_the_cache_too(get, tmp_path):
    get()
    with pytest.raises(DownloadError, match=f"expected {sha256(OTHER_BODY)}"):
        get(sha256=sha256(OTHER_BODY))
    assert get().read_bytes() == BODY


def test_a_pin_that_is_no_checksum_is_an_error_before_any_transfer(site, get):
    with pytest.raises(DownloadError, match="64 hexadecimal digits"):
        get(sha256="d41d8cd98f00b204e9800998ecf8427e")
    assert not site.requests


@pytest.mark.parametrize(
    "name",
    [
        *("", "../a.npz", "vtab/../../a.npz", "/etc/a.npz", "..\\a.npz", "C:/a.npz"),
        *("a//b", "a/", "a?b"),
    ],
)
def test_names_cannot_leave_the_cache(site, tmp_path, name):
    with pytest.raises(DownloadError, match="expected the relative path"):
        fetch(name, base_url=site.url, cache_dir=tmp_path / "cache")
    assert not site.requests
    assert files(tmp_path) == []


def test_of_two_processes_one_downloads_and_one_waits(site, tmp_path):
    site.pause_at = CUT
    arguments = f"base_url={site.url!r}, cache_dir={str(tmp_path / 'cache')!r}"
    logs = [tmp_path / "0.log", tmp_path / "1.log"]
    processes = []
    for log in logs:
        with open(log, "w") as stderr:
            processes.append(child(arguments, stdout=subprocess.PIPE, stderr=stderr))
    wait_until(lambda: any("waiting for it" in log.read_text() for log in logs))
    site.go_on.set()
    for process in processes:
        assert process.communicate(timeout=30)[0].strip() == str(tmp_path / "cache" / NAME)
        assert process.returncode == 0
    assert site.ranges_asked() == [None]
    assert (tmp_path / "cache" / NAME).read_bytes() == BODY


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
def test_a_killed_download_is_resumed(site, get, tmp_path):
    site.pause_at = CUT
    partial = tmp_path / f"{NAME}.partial"
    process = child(
        f"base_url={site.url!r}, cache_dir={str(tmp_path)!r}", stderr=subprocess.DEVNULL
    )
    wait_until(lambda: partial.exists() and partial.stat().st_size > 0)
    process.kill()
    process.wait()
    site.pause_at = None
    came = partial.stat().st_size
    assert get().read_bytes() == BODY
    assert site.ranges_asked() == [None, f"bytes={came}-"]


@pytest.mark.skipif(os.name != "posix", reason="needs a limit to the size of files")
def test_a_full_disk_keeps_what_came(site, get, tmp_path):
    """A limit to the size of files stands in for the disk: both fail a write midway."""
    process = child(
        f"base_url={site.url!r}, cache_dir={str(tmp_path)!r}",
        before=f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, ({CUT}, {CUT}))",
        stderr=subprocess.PIPE,
    )
    message = process.communicate(timeout=30)[1].splitlines()[-1]
    assert message.startswith(f"{download.__name__}.DownloadError: cannot keep {tmp_path / NAME} (")
    assert "BIT_KERAS_CACHE" in message
    assert files(tmp_path) == [f"{NAME}.partial", f"{NAME}.partial.json"]
    assert get().read_bytes() == BODY
    assert site.ranges_asked() == [None, f"bytes={CUT}-"]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_full_disk_is_named(get, tmp_path):
    (tmp_path / f"{NAME}.partial").symlink_to("/dev/full")
    with pytest.raises(DownloadError, match="No space left on device"):
        get()
