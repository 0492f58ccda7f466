"""Data sets of TensorFlow Datasets by name: found, downloaded and prepared."""

import contextlib
import difflib
import os
import pathlib
import re
import socket
import threading
import urllib.parse
import urllib.request
from typing import TYPE_CHECKING

from ...files import forbidden, offline
from ..labeled_images import DataError

if TYPE_CHECKING:
    import tensorflow_datasets as tfds


_FIRST_LOOK_UP, _LOOK_UP = 5.0, 1.0  # seconds for a host, and once one was not found
_MISSED: set[str] = set()  # hosts that could not be reached by this process


class UnknownNameError(DataError):
    """TensorFlow Datasets has no builder of that name."""


def open_builder(name: str, data_dir: str | os.PathLike | None) -> "tfds.core.DatasetBuilder":
    """The builder of that name, which may have no files yet; raises DataError if it is unknown."""
    import tensorflow_datasets as tfds
    from tensorflow_datasets.core import visibility

    if re.match(r"\w+:[A-Za-z_]", name):  # and not NAME:VERSION
        raise DataError(
            f"{name} is a data set that others wrote for TFDS, which would download their program "
            "and run it; give a folder or a CSV file with its images instead"
        )
    own = [visibility.DatasetType.TFDS_PUBLIC]  # or a wrong name would be looked up in the network
    try:
        with visibility.set_availables_tmp(own):
            return tfds.builder(name, data_dir=data_dir)
    except (ValueError, AssertionError) as error:
        base, known = re.split("[/:]", name)[0], tfds.list_builders(with_community_datasets=False)
        if base in known:  # its configuration or version is not
            raise DataError(f"{name} is not a data set of TFDS: {_sentence(error)}") from error
        nearest = difflib.get_close_matches(base, known, cutoff=0.5)
        hint = f"did you mean {', '.join(nearest)}?" if nearest else "see tfds.list_builders()"
        raise UnknownNameError(f"TensorFlow Datasets has no {name!r}; {hint}") from None


def prepare(builder: "tfds.core.DatasetBuilder") -> None:
    """Downloads and prepares the data set unless it is there.

    Raises DataError if that fails, or the network is needed and `$BIT_KERAS_OFFLINE` forbids it.
    """
    if offline() and not builder.data_path.exists():
        raise DataError(forbidden(f"{builder.name} (to {builder.data_path.parent})"))
    unreachable = _unreachable_hosts(builder)
    try:
        with _without_retries() if unreachable else contextlib.nullcontext():
            builder.download_and_prepare()
    except Exception as error:
        reason = _sentence(error)
        if unreachable and isinstance(error, OSError):  # those of requests are
            reason = (
                f"it is not in {builder.data_path.parent}, and {', '.join(unreachable)} cannot be "
                "reached from here; connect this machine to the internet, or copy that folder from "
                "another"
            )
        if instructions := builder.MANUAL_DOWNLOAD_INSTRUCTIONS:
            reason = (  # TFDS's own message includes the instructions if the folder is empty
                f"{reason.partition('. Create it')[0]}; what TFDS cannot download goes into "
                f"{manual_dir(builder)} by hand: {_sentence(instructions).rstrip('.')}"
            )
        raise DataError(f"{builder.name} cannot be prepared: {reason}") from error


def _unreachable_hosts(builder):
    """The hosts of a data set's files, if none of them can be found; else none."""
    proxies = urllib.request.getproxies().keys() - {"no"}  # which is a list of exceptions
    if builder.data_path.exists() or proxies:  # a proxy finds hosts by itself
        return []
    urls = map(urllib.parse.urlsplit, builder.url_infos or ())
    hosts = sorted({url.hostname for url in urls if url.scheme.startswith(("http", "ftp"))})
    return [] if any(map(_can_be_reached, hosts[:2])) else hosts[:2]


def _can_be_reached(host):
    """Whether a host is known and answers; the first that does not makes this machine offline."""
    seconds = _LOOK_UP if _MISSED else _FIRST_LOOK_UP
    if host in _MISSED:
        return False
    answered = threading.Event()

    def look():
        with contextlib.suppress(OSError):
            with contextlib.suppress(ConnectionRefusedError):  # it is there, maybe on another port
                socket.create_connection((host, 443), timeout=seconds).close()
            answered.set()

    threading.Thread(target=look, daemon=True).start()  # a look-up has no limit of its own
    if not answered.wait(seconds):
        _MISSED.add(host)
    return answered.is_set()


@contextlib.contextmanager
def _without_retries():
    """TFDS would look for a host that does not exist for minutes, whatever is asked of it.

    It still takes what it has downloaded before.
    """
    from tensorflow_datasets.core.download import downloader

    before = getattr(downloader, "MAX_RETRIES", None)
    downloader.MAX_RETRIES = 0
    try:
        yield
    finally:
        downloader.MAX_RETRIES = before


def manual_dir(builder: "tfds.core.DatasetBuilder") -> pathlib.Path:
    """The folder in which TFDS looks for files that were downloaded by hand."""
    root = builder.data_path.parents[builder.info.full_name.count("/")]
    return root / "downloads" / "manual"


def _sentence(error):
    """The first 300 characters of an error of TFDS, which may have many lines, on one line."""
    return " ".join(str(error).split())[:300] or type(error).__name__
