"""Checkpoints as data: canonical names and arrays, to and from files and the network."""

from .download import DownloadError, base_url, cache_dir, fetch
from .matching import CheckpointError, check_names_and_shapes
from .npz import NpzCheckpoint, open_npz, save_npz

__all__ = [
    "CheckpointError",
    "DownloadError",
    "NpzCheckpoint",
    "base_url",
    "cache_dir",
    "check_names_and_shapes",
    "fetch",
    "open_npz",
    "save_npz",
]
