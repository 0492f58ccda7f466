"""Downloads weights from Hugging Face and TF-Hub with their own clients and caches."""

import pathlib

from .checkpoint import require_interop
from .download import DownloadError
from .timm_transformers import FILE


def fetch_hugging_face(repository: str, revision: str | None = None) -> pathlib.Path:
    """Returns the path of a repository's model.safetensors in the cache of huggingface_hub.

    The environment variables of huggingface_hub (`HF_ENDPOINT`, `HF_HOME`, `HF_TOKEN`, ...) apply.
    Raises CheckpointError if it is not installed, DownloadError if the file cannot be fetched.

    Args:
        repository: Such as "timm/resnetv2_50x1_bit.goog_in21k".
        revision: A branch, tag or commit; by default the main branch.
    """
    require_interop()
    import huggingface_hub

    try:
        return pathlib.Path(huggingface_hub.hf_hub_download(repository, FILE, revision=revision))
    except Exception as error:  # its own errors, those of its HTTP client, and the disk's
        raise DownloadError(
            f"cannot fetch {FILE} of hf://{repository} ({_one_line(error)}): check the name, that "
            "the repository holds that file, and the network"
        ) from error


def fetch_tf_hub(url: str) -> pathlib.Path:
    """Returns the folder of a TF-Hub module, or of any .tar.gz of a SavedModel, in TF-Hub's cache.

    `TFHUB_CACHE_DIR` sets another cache. Raises DownloadError if the module cannot be fetched.
    """
    try:
        import tensorflow_hub as hub

        folder = pathlib.Path(hub.resolve(url))
        if not (folder / "saved_model.pb").is_file():
            raise FileNotFoundError(f"{folder} holds no saved_model.pb")
    except Exception as error:  # of HTTP, of tar, of TensorFlow's file system
        raise DownloadError(
            f"cannot fetch {url} as a TF-Hub module ({_one_line(error)}): check the URL, which "
            "must answer with a .tar.gz of a SavedModel, and the network"
        ) from error
    return folder


def _one_line(error):
    return " ".join(str(error).split())[:300] or type(error).__name__
