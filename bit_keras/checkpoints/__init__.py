"""Checkpoints as data: canonical names and arrays, to and from files and the network."""

from ..files import cache_dir
from .archives import check_unpacked_size
from .checkpoint import Checkpoint, brief, check_finite, damage_as_error, require_interop
from .download import DownloadError, base_url, fetch
from .hubs import fetch_hugging_face, fetch_tf_hub
from .matching import (
    CheckpointError,
    architecture,
    architecture_shapes,
    check_names_and_shapes,
    first_few,
)
from .npz import open_npz, save_npz
from .saved_model import open_saved_model
from .timm_transformers import open_safetensors, save_timm, save_transformers
