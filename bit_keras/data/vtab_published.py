"""Published VTAB-1k results, to compare with."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from .sources.vtab import VTAB


class VtabResult(NamedTuple):
    """A published VTAB-1k result; all accuracies are in %.

    Attributes:
        model: The model's name in the source.
        source: The publication.
        mean: The mean accuracy of the 19 tasks.
        natural, specialized, structured: The mean of each group, if published.
        tasks: The accuracy of each task, if published.
    """

    model: str
    source: str
    mean: float
    natural: float | None = None
    specialized: float | None = None
    structured: float | None = None
    tasks: Mapping[str, float] = MappingProxyType({})


def _by_task(*accuracies):
    return dict(zip(VTAB, accuracies, strict=True))


_PAPER = "BiT paper (Kolesnikov et al. 2020, arXiv:1912.11370)"
_RERUN = "re-run (google-research/big_transfer, README)"
# At 224 pixels, the best of four settings per task, not HyperRule.
_BENCHMARK = "VTAB (google-research/task_adaptation, docs/data/results.csv)"
VTAB_PUBLISHED = (
    VtabResult("BiT-L-R152x4", _PAPER, 76.29),
    VtabResult("BiT-M-R152x4", _PAPER, 70.64),
    VtabResult("BiT-S-R152x4", _PAPER, 66.87),
    VtabResult("BiT-M-R152x4", _RERUN, 73.51, 80.77, 85.67, 61.08),
    VtabResult("BiT-M-R101x3", _RERUN, 72.65, 80.29, 85.75, 59.40),
    VtabResult(
        *("ResNet-50, ILSVRC-2012", _BENCHMARK, 66.37, 73.46, 82.49, 52.10),
        _by_task(
            *(90.95, 57.03, 66.01, 88.61, 89.87, 34.41, 87.32),
            *(80.61, 95.31, 80.84, 73.20),
            *(40.96, 56.11, 36.29, 70.57, 85.73, 45.96, 45.74, 35.44),
        ),
    ),
    VtabResult(
        *("ResNet-50, from scratch", _BENCHMARK, 43.14, 27.91, 68.94, 43.57),
        _by_task(
            *(38.24, 13.17, 20.58, 40.22, 12.06, 5.02, 66.07),
            *(75.62, 84.95, 42.63, 72.57),
            *(38.85, 55.19, 26.56, 42.71, 78.43, 39.15, 30.08, 37.61),
        ),
    ),
)
