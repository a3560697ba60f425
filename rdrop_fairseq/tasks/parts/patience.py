"""--patience across restarts, and in proportion to the updates so far (--patience-share).

fairseq counts validations without a new best in the process, so that a training that was killed and resumes forgets
its best score and waits for the whole of its patience again. And it counts validations, so that a patience that lets
slow training finish wastes the time of fast training.
"""

from __future__ import annotations

import sys
from typing import Any, Optional


def counters() -> list[Any]:
    """fairseq-train's own counter, a function with attributes; two if it runs as `python -m fairseq_cli.train` and
    something imports that module besides; none outside of a training."""
    modules = [sys.modules.get(name) for name in ("__main__", "fairseq_cli.train")]
    found = [getattr(module, "should_stop_early", None) for module in modules]
    return [function for function in found if function is not None]


WAITING = -(10**9)  # validations so far without a better one, as fairseq is made to believe while the share lasts


class KeepsPatience:
    """Mixin for a fairseq task: checkpoints hold the best score seen and the number of validations since. fairseq's
    trainer asks a task for its part of a checkpoint and gives it back, unless the data loader is reset, as it is where
    another training starts from the checkpoint.

    With `patience_share` s in the task's configuration, a validation after update u counts for --patience only if the
    best one is at least s * u updates back; --patience 1 then means: stop where the last share of the training brought
    nothing better."""

    cfg: Any
    patience_best: Optional[float] = None
    patience_best_update = 0

    def train_step(
        self,
        sample: dict[str, Any],
        model: Any,
        criterion: Any,
        optimizer: Any,
        update_num: int,
        ignore_grad: bool = False,
    ) -> Any:
        """fairseq's train_step, after its counter of validations was set for the next one."""
        if share := getattr(self.cfg, "patience_share", 0.0):
            self._wait(share, update_num)
        return super().train_step(sample, model, criterion, optimizer, update_num, ignore_grad)  # type: ignore[misc]

    def _wait(self, share: float, update_num: int) -> None:
        for counter in counters():
            if not hasattr(counter, "best"):
                continue
            if counter.best != self.patience_best:
                self.patience_best, self.patience_best_update = counter.best, update_num
            following = update_num + 1  # where the next validation is at the earliest
            if following - self.patience_best_update < share * following:
                counter.num_runs = WAITING
            elif counter.num_runs < 0:
                counter.num_runs = 0

    def get_checkpoint_dict(self) -> dict[str, dict[str, Any]]:
        """The task's part of a checkpoint, by the name that fairseq looks for."""
        known = next((counter for counter in counters() if hasattr(counter, "best")), None)
        if known is None:
            return {}
        state = {"patience_best": float(known.best), "patience_runs": int(known.num_runs)}
        # saved after a validation and before the next update has looked at its result
        if known.best == self.patience_best:
            state["patience_best_update"] = self.patience_best_update
        return {type(self).__name__: state}

    def set_checkpoint_dict(self, state: dict[str, Any]) -> None:
        """Set fairseq's counter to what `get_checkpoint_dict` gave."""
        for counter in counters():
            counter.best, counter.num_runs = state["patience_best"], state["patience_runs"]
        if "patience_best_update" in state:
            self.patience_best, self.patience_best_update = state["patience_best"], state["patience_best_update"]
