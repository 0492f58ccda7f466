"""Training: the loop, and the folder a run lives in. Knows nothing of BiT."""

from .loop import TrainingError, train
from .run_folder import RunFolder, RunFolderError

__all__ = ["RunFolder", "RunFolderError", "TrainingError", "train"]
