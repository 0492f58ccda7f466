"""Published files: downloaded once, cached, and checked by SHA-256 at every load.

Beside `NAME` the cache holds `NAME.sha256`, its checksum in the format of `sha256sum`, and
`NAME.lock`. During a download, and after an interrupted one, `NAME.partial` holds the bytes
received so far and `NAME.partial.json` their source.
"""

import hashlib
import http.client
import json
import os
import pathlib
import re
import time
import urllib.error
import urllib.request

import tqdm

from ..files import expanded, forbidden, lock, move_file, offline, write_text
from .patience import LEAST_RATE, TooSlowError, patience, patiently, silence

RETRY_DELAYS = (1.0, 2.0, 4.0, 8.0)  # seconds before each further try

_SLOW_TRIES = 2  # in a row, as another connection to the same server is rarely faster
_CHUNK = 1 << 18
_NAME = re.compile(r"\w[\w.-]*(/\w[\w.-]*)*", re.ASCII)
_SHA256 = re.compile(r"[0-9a-f]{64}")


class DownloadError(OSError):
    """A published file cannot be fetched, or has another checksum than expected."""


class _TransferError(Exception):
    """A transfer failed that may succeed on a retry."""


class _WebPageError(Exception):
    """A server sends a page in place of the file."""


class _SlowError(_TransferError):
    """A server sends nothing, or next to nothing."""


def base_url() -> str:
    """Returns the URL of the published files: `$BIT_KERAS_BASE_URL`, or the authors' bucket."""
    return os.environ.get("BIT_KERAS_BASE_URL") or "https://storage.googleapis.com/bit_models/"


def fetch(
    name: str, *, base_url: str, cache_dir: str | os.PathLike, sha256: str | None = None
) -> pathlib.Path:
    """Returns the path of a published file in the cache, downloading it if needed.

    The authors publish no checksums, so the SHA-256 of the first download is recorded beside the
    file and verified by every later call. For a file that was put into the cache by hand, it is
    recorded at the first call. An interrupted download is resumed. If several processes ask for
    the same file, one downloads it and the others wait.

    A server that sends less than 1 KiB a second for `$BIT_KERAS_TIMEOUT` seconds (30) is given up.
    With `$BIT_KERAS_OFFLINE` set, only files in the cache are returned. `$BIT_KERAS_SHA256` names
    a file in the format of `sha256sum`, whose lines pin files by their names.

    Args:
        name: The file below `base_url` and `cache_dir`, such as `BiT-M-R50x1.npz` or
            `vtab/BiT-M-R50x1-run0-cifar100.npz`.
        sha256: The hexadecimal SHA-256 that the file must have, by default the pinned one.

    Raises:
        DownloadError: If the file cannot be fetched or kept, or has another SHA-256.
    """
    if not _NAME.fullmatch(name):
        raise DownloadError(
            f"cannot fetch {name!r}: expected the relative path of a published file, "
            "such as 'BiT-M-R50x1.npz'"
        )
    pin = sha256.lower() if sha256 else pinned_sha256(name)
    if pin and not _SHA256.fullmatch(pin):
        raise DownloadError(f"sha256 must be 64 hexadecimal digits, got {sha256!r}")
    url = f"{base_url.rstrip('/')}/{name}"
    path = pathlib.Path(cache_dir) / name
    record = _beside(path, ".sha256")
    try:
        # A recorded file is complete, so a read-only cache needs no lock.
        if offline() and not path.exists():
            raise DownloadError(forbidden(f"{url} (to {path})"))
        if not (path.exists() and record.exists()):
            path.parent.mkdir(parents=True, exist_ok=True)
            waiting = f"another process is downloading {path}: waiting for it"
            with lock(_beside(path, ".lock"), waiting):
                if not path.exists():
                    _download(url, path, pin)
                    return path
                if not record.exists():
                    _write_record(path, _sha256(path))
        _verify(path, pin)
    except DownloadError:
        raise
    except ValueError as error:  # of a variable
        raise DownloadError(str(error)) from error
    except OSError as error:
        raise DownloadError(
            f"cannot keep {path} ({error}): make room or set BIT_KERAS_CACHE to another folder, "
            "then load again to resume the download"
        ) from error
    return path


def pinned_sha256(name: str) -> str | None:
    """Returns the SHA-256 of a file by its name in the list that `$BIT_KERAS_SHA256` names.

    None if there is no list, or the name is not in it. Raises DownloadError if it is not a list.
    """
    listed = os.environ.get("BIT_KERAS_SHA256")
    if not listed:
        return None
    pins = {}
    try:
        for line in pathlib.Path(expanded(listed)).read_text(encoding="utf-8").splitlines():
            digest, _, file = line.partition(" ")
            if line.strip() and not _SHA256.fullmatch(digest.lower()):
                raise ValueError(f"{line[:80]!r} does not begin with 64 hexadecimal digits")
            pins[file[1:].removeprefix("./")] = digest.lower()
    except (OSError, ValueError) as error:
        raise DownloadError(
            f"cannot read the checksums in {listed} ({error}): give BIT_KERAS_SHA256 a file that "
            "sha256sum wrote, with a line for each file"
        ) from error
    return pins.get(name)


def check_pin(path: str | os.PathLike, pin: str | None) -> None:
    """Raises DownloadError if a file has another SHA-256 than the one it is pinned to."""
    if pin and (found := _sha256(pathlib.Path(path))) != pin:
        raise _other_than(pin, path, found)


def _verify(path: pathlib.Path, pin: str | None) -> None:
    record = _beside(path, ".sha256")
    found = _sha256(path)
    recorded = record.read_text(errors="replace").partition(" ")[0]
    if found != recorded:
        raise DownloadError(
            f"{path} has SHA-256 {found}, expected {recorded} as recorded: delete it to download "
            f"it again, or delete {record} to accept the file as it is"
        )
    if pin and found != pin:
        raise _other_than(pin, path, found)


def _other_than(pin, path, found):
    return DownloadError(
        f"{path} has SHA-256 {found}, expected {pin}: delete it to download it again"
    )


def _download(url: str, path: pathlib.Path, pin: str | None) -> None:
    partial = _beside(path, ".partial")
    slow, seconds = 0, patience()
    for delay in (*RETRY_DELAYS, None):
        before = partial.stat().st_size if partial.exists() else 0
        try:
            _transfer(url, path, partial, seconds)
            break
        except _WebPageError as error:
            for file in (partial, _beside(partial, ".json")):
                file.unlink(missing_ok=True)
            raise DownloadError(
                f"{url} answers with a web page instead of the file: log in to this network if it "
                "asks for it, and check BIT_KERAS_BASE_URL if it is set"
            ) from error
        except _TransferError as error:
            came = partial.stat().st_size - before if partial.exists() else 0
            in_vain = isinstance(error, _SlowError) and came < LEAST_RATE * seconds
            slow = slow + 1 if in_vain else 0
            if delay is None or slow == _SLOW_TRIES:
                raise _unreachable(url, path, error) from error
            time.sleep(delay)
    found = _sha256(partial)
    if not pin or found == pin:
        _write_record(path, found)  # First, so that no file is in the cache without it.
        move_file(partial, path)
    partial.unlink(missing_ok=True)
    _beside(partial, ".json").unlink()
    if pin and found != pin:
        raise DownloadError(
            f"{url} has SHA-256 {found}, expected {pin}: check the checksum and the server; "
            "the download was not kept"
        )


def _transfer(url: str, path: pathlib.Path, partial: pathlib.Path, seconds: float) -> None:
    """Completes `partial` by one request, for the missing bytes only if the server allows it."""
    offset, length, etag = _resumable(url, partial)
    if offset and offset == length:
        return  # Interrupted after the last byte, before the checksum.
    headers = {"Range": f"bytes={offset}-"} if offset else {}
    if offset and etag and not etag.startswith("W/"):  # If-Range does not take weak tags.
        headers["If-Range"] = etag
    with _request(url, headers, path, seconds) as response:
        answered = (response.headers.get("Content-Range"), response.headers.get("ETag"))
        if response.status in (206, 416):
            if answered != (f"bytes {offset}-{length - 1}/{length}", etag):
                partial.unlink(missing_ok=True)
                raise _TransferError("the file on the server has changed")
        else:
            content_length = response.headers.get("Content-Length", "")
            offset, length = 0, int(content_length) if content_length.isdecimal() else 0
            partial.write_bytes(b"")  # First, so that old bytes never get a new source.
            source = {"url": url, "length": length, "etag": answered[1]}
            _beside(partial, ".json").write_text(json.dumps(source))
        total = length or None
        bar = tqdm.tqdm(desc=path.name, total=total, initial=offset, unit="B", unit_scale=True)
        with open(partial, "ab") as file, bar:
            start, received = time.monotonic(), 0
            while chunk := _read_chunk(response, seconds):
                if not file.tell() and chunk.lstrip().startswith(b"<"):
                    raise _WebPageError
                file.write(chunk)
                bar.update(len(chunk))
                received += len(chunk)
                if (now := time.monotonic()) - start > seconds:
                    if received < LEAST_RATE * seconds:
                        raise _SlowError(silence(seconds))
                    start, received = now, 0
            file.flush()
            os.fsync(file.fileno())
    size = partial.stat().st_size
    if length and size != length:
        raise _TransferError(f"the connection ended after {size} of {length} bytes")


def _resumable(url: str, partial: pathlib.Path) -> tuple[int, int, str | None]:
    """Returns the bytes of a file that are there, its full length and its ETag; 0 if unknown."""
    try:
        source = json.loads(_beside(partial, ".json").read_text())
        if source["url"] == url:
            return partial.stat().st_size, int(source["length"]), source["etag"]
    except (FileNotFoundError, ValueError, TypeError, LookupError):  # of a file that was cut short
        pass
    return 0, 0, None


def _request(
    url: str, headers: dict[str, str], path: pathlib.Path, seconds: float
) -> http.client.HTTPResponse:
    try:
        request = urllib.request.Request(url, headers=headers)
        return patiently(lambda: urllib.request.urlopen(request, timeout=seconds), seconds)
    except urllib.error.HTTPError as error:
        if error.code == 416:
            return error
        if error.code >= 500 or error.code in (408, 429):
            raise _TransferError(f"{error.code} {error.reason}") from error
        reason = " ".join(str(error.reason).split())  # several lines, of redirects without end
        raise DownloadError(
            f"{url} cannot be downloaded ({error.code} {reason}): check the name, and "
            "BIT_KERAS_BASE_URL if it is set"
        ) from error
    except TooSlowError as error:
        raise _SlowError(str(error)) from error
    except (urllib.error.URLError, ValueError) as error:
        reason = getattr(error, "reason", error)
        if isinstance(reason, ConnectionResetError):
            raise _TransferError(str(reason)) from error
        raise _unreachable(url, path, reason) from error
    except TimeoutError as error:
        raise _SlowError(silence(seconds)) from error
    except (OSError, http.client.HTTPException) as error:
        raise _TransferError(str(error)) from error


def _read_chunk(response: http.client.HTTPResponse, seconds: float) -> bytes:
    try:
        return response.read1(_CHUNK)  # what there is; `read` would wait for all of it
    except TimeoutError as error:
        raise _SlowError(silence(seconds)) from error
    except (OSError, http.client.HTTPException) as error:
        raise _TransferError(str(error)) from error


def _unreachable(url: str, path: pathlib.Path, reason: object) -> DownloadError:
    return DownloadError(
        f"cannot download {url} ({reason}): check the network, or set BIT_KERAS_BASE_URL to a "
        f"mirror, or save the file as {path} yourself (BIT_KERAS_CACHE sets another cache)"
    )


def _sha256(path: pathlib.Path) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def _write_record(path: pathlib.Path, sha256: str) -> None:
    write_text(_beside(path, ".sha256"), f"{sha256}  {path.name}\n")


def _beside(path: pathlib.Path, suffix: str) -> pathlib.Path:
    return path.with_name(path.name + suffix)
