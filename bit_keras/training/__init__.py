"""Training: the loop, the run around it, and the folder a run leaves. Knows nothing of BiT."""

from .backends import on_tensorflow, require_tensorflow

if on_tensorflow():
    from .devices import Devices
    from .flops import forward_flops
    from .inference import NotFiniteError, collect, inference_function, predict
    from .loop import Interrupted, Intervals, Tests, TrainingError, train
    from .losses import LOSSES, weighted_by_class
    from .memory import fitting_split, rematerialize
    from .objective import Objective
    from .run import RunOptions, Task, TrainedModel, run_task
    from .run_folder import RunFolder, RunFolderError, check_workdir, how_to_go_on
    from .strategies import (
        StrategyError,
        is_chief,
        make_strategy,
        single_machine_strategy,
        wait_for_all_workers,
    )
else:  # `backends` and `reading_runs` need none

    def __getattr__(name):
        if name.startswith("_"):
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        require_tensorflow(f"{__name__}.{name}")
