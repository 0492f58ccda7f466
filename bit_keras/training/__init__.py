"""Training: the loop, and the folder a run lives in. Knows nothing of BiT."""

from .loop import Interrupted, TrainingError, train
from .memory import fitting_split, forward_flops
from .run_folder import RunFolder, RunFolderError
from .strategies import STRATEGIES, StrategyError, is_chief, make_strategy, wait_for_all_workers

__all__ = [
    "STRATEGIES",
    "Interrupted",
    "RunFolder",
    "RunFolderError",
    "StrategyError",
    "TrainingError",
    "fitting_split",
    "forward_flops",
    "is_chief",
    "make_strategy",
    "train",
    "wait_for_all_workers",
]
