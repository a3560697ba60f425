"""--patience across restarts, and in proportion to the updates so far (--patience-share).

fairseq keeps its count of validations without a new best in the process, so a resumed training forgets its best score
and starts counting from 0. And it counts validations, however many updates a training needs: a patience that lets a
slow training finish wastes time on a fast one.
"""

# No postponed annotations here: fairseq builds its options from the types of the fields, not from their names.
import sys
from dataclasses import dataclass, field
from typing import Any, Optional


@dataclass
class PatienceConfig:
    """Option of a task with KeepsPatience: when to stop."""

    patience_share: float = field(
        default=0.0,
        metadata={
            "help": "with --patience: validations count only while the best one is at least this share of all updates "
            "back (0.33: stop when the last third brought nothing better)"
        },
    )


def training_modules() -> list[Any]:
    """fairseq-train's module; two if it runs as `python -m fairseq_cli.train` and something imports that module
    besides; none outside of a training."""
    found = [sys.modules.get(name) for name in ("__main__", "fairseq_cli.train")]
    return [module for module in found if hasattr(module, "should_stop_early")]


def counters() -> list[Any]:
    """fairseq-train's counter of validations, a function with attributes, in each of those modules."""
    return [module.should_stop_early for module in training_modules()]


WAITING = -(10**9)  # the count that fairseq is given until the share is reached


class KeepsPatience:
    """Mixin for a fairseq task: checkpoints hold the best score and the number of validations since. fairseq's trainer
    gets the task's part of a checkpoint and restores it, except if the data loader is reset, as for another training
    that starts from the checkpoint.

    With `patience_share` s in the task's configuration, a validation after update u counts for --patience only if the
    best one is at least s * u updates back; --patience 1 then stops when the last share of the training brought nothing
    better."""

    cfg: Any
    patience_best: Optional[float] = None
    patience_best_update = 0

    def train_step(
        self, sample: Any, model: Any, criterion: Any, optimizer: Any, update_num: int, *args: Any, **kwargs: Any
    ) -> Any:
        """fairseq's train_step, after setting its counter for the next validation."""
        if share := getattr(self.cfg or getattr(self, "args", None), "patience_share", 0.0):  # older tasks have args
            self._wait(share, update_num)
        return super().train_step(  # type: ignore[misc]
            sample, model, criterion, optimizer, update_num, *args, **kwargs
        )

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
        """The task's part of a checkpoint, under the name that fairseq looks for."""
        known = next((counter for counter in counters() if hasattr(counter, "best")), None)
        if known is None:
            return {}
        state = {"patience_best": float(known.best), "patience_runs": int(known.num_runs)}
        # saved after a validation and before the next update has looked at its result
        if known.best == self.patience_best:
            state["patience_best_update"] = self.patience_best_update
        return {type(self).__name__: state}

    def set_checkpoint_dict(self, state: dict[str, Any]) -> None:
        """Restores fairseq's counter from the result of `get_checkpoint_dict`."""
        for counter in counters():
            counter.best, counter.num_runs = state["patience_best"], state["patience_runs"]
        if "patience_best_update" in state:
            self.patience_best, self.patience_best_update = state["patience_best"], state["patience_best_update"]
