"""Downloads weights from Hugging Face and TF-Hub with their own clients and caches."""

import contextlib
import hashlib
import os
import pathlib
from collections.abc import Callable
from typing import Any

from ..files import forbidden, offline
from .checkpoint import brief, require_interop
from .download import DownloadError, check_pin, pinned_sha256
from .patience import patience, patiently
from .timm_transformers import FILE

_BUFFERED = 2  # times the usual patience, for these clients write what they receive later


def fetch_hugging_face(repository: str, revision: str | None = None) -> pathlib.Path:
    """Returns the path of a repository's model.safetensors in the cache of huggingface_hub.

    The environment variables of huggingface_hub (`HF_ENDPOINT`, `HF_HOME`, `HF_TOKEN`, ...) apply.
    `$BIT_KERAS_SHA256` pins `ORG/NAME/model.safetensors`, and `$BIT_KERAS_OFFLINE` takes only what
    is in the cache. Raises CheckpointError if it is not installed, DownloadError if the file cannot
    be fetched.

    Args:
        repository: Such as "timm/resnetv2_50x1_bit.goog_in21k".
        revision: A branch, tag or commit; by default the main branch.
    """
    require_interop()
    if offline():  # read when it is imported: it asks its server for more than files
        os.environ["HF_HUB_OFFLINE"] = "1"
    import huggingface_hub
    from huggingface_hub.constants import HF_HUB_CACHE

    pin = pinned_sha256(f"{repository}/{FILE}")
    cached = pathlib.Path(HF_HUB_CACHE)

    def fetch():
        return huggingface_hub.hf_hub_download(
            repository, FILE, revision=revision, local_files_only=offline()
        )

    try:
        path = _watched(fetch, cached / f"models--{repository.replace('/', '--')}")
    except Exception as error:  # its own errors, those of its HTTP client, and the disk's
        if offline():
            raise DownloadError(forbidden(f"hf://{repository} (to {cached})")) from error
        raise DownloadError(
            f"cannot fetch {FILE} of hf://{repository} ({brief(error)}): check the name, that "
            "the repository holds that file, and the network"
        ) from error
    check_pin(path, pin)
    return pathlib.Path(path)


def fetch_tf_hub(url: str) -> pathlib.Path:
    """Returns the folder of a TF-Hub module, or of any .tar.gz of a SavedModel, in TF-Hub's cache.

    `TFHUB_CACHE_DIR` sets another cache. Raises DownloadError if the module cannot be fetched.
    """
    try:
        import tensorflow_hub as hub
        from tensorflow_hub.resolver import tfhub_cache_dir

        cached = pathlib.Path(tfhub_cache_dir(use_temp=True))
        if offline() and not (cached / hashlib.sha1(url.encode()).hexdigest()).is_dir():
            raise DownloadError(forbidden(f"{url} (to {cached})"))
        folder = pathlib.Path(_watched(lambda: hub.resolve(url), cached))
        if not (folder / "saved_model.pb").is_file():
            raise FileNotFoundError(f"{folder} holds no saved_model.pb")
    except DownloadError:
        raise
    except Exception as error:  # of HTTP, of tar, of TensorFlow's file system
        raise DownloadError(
            f"cannot fetch {url} as a TF-Hub module ({brief(error)}): check the URL, which "
            "must answer with a .tar.gz of a SavedModel, and the network"
        ) from error
    return folder


def _watched(fetch: Callable[[], Any], folder: pathlib.Path) -> Any:
    """Returns what a hub's own client does; raises TooSlowError if its folder does not grow."""

    def size():
        total = 0
        for place, _, names in os.walk(folder):
            for name in names:
                with contextlib.suppress(FileNotFoundError):  # renamed meanwhile
                    total += os.lstat(os.path.join(place, name)).st_size
        return total

    return patiently(fetch, _BUFFERED * patience(), size)
