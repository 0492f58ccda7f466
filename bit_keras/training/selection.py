"""Which of a run's models is kept, by images that are neither trained nor tested on."""

import dataclasses

from .run_folder import RunFolder


@dataclasses.dataclass
class Selection:
    """The scores of a run's validation images, step by step.

    Attributes:
        run: Its folder, whose log has the scores from before it was interrupted.
        metric: The name in the log of the score, the higher the better.
        patience: Tests in a row without a new best, after which training ends; None for no end.
    """

    run: RunFolder
    metric: str
    patience: int | None = None
    _scores: dict[int, float] | None = dataclasses.field(default=None, init=False)

    def scores(self, step: int) -> dict[int, float]:
        """Returns the scores up to a step: those of the log, when it is asked for the first time.

        Every worker counts for itself from then on, so that all stop after the same step.
        """
        if self._scores is None:
            self._scores = {
                x["step"]: x[self.metric] for x in self.run.history() if self.metric in x
            }
        return {known: score for known, score in self._scores.items() if known <= step}

    def add(self, step: int, score: float) -> bool:
        """Adds a score; returns whether it is the best so far."""
        before = self.scores(step - 1)
        self._scores = {**before, step: score}
        return score > max(before.values(), default=float("-inf"))

    def best_step(self, step: int) -> int:
        """Returns the step of the best score, the first of equal ones, up to a step."""
        scores = self.scores(step)
        return max(scores, key=lambda known: (scores[known], -known))

    def exhausted(self, step: int) -> bool:
        """Whether there was no new best for as many tests as the patience lasts."""
        scores = self.scores(step)
        if self.patience is None or not scores:
            return False
        return sum(known > self.best_step(step) for known in scores) >= self.patience
