"""--patience across restarts: fairseq counts validations without a new best in the process, so that a training that
was killed and goes on forgets its best score and waits for the whole of its patience again."""

from __future__ import annotations

import sys
from typing import Any


def counters() -> list[Any]:
    """fairseq-train's own counter, a function with attributes; two if it runs as `python -m fairseq_cli.train` and
    something imports that module besides; none outside of a training."""
    modules = [sys.modules.get(name) for name in ("__main__", "fairseq_cli.train")]
    found = [getattr(module, "should_stop_early", None) for module in modules]
    return [function for function in found if function is not None]


class KeepsPatience:
    """Mixin for a fairseq task: checkpoints hold the best score seen and the number of validations since. fairseq's
    trainer asks a task for its part of a checkpoint and gives it back, unless the data loader is reset, as it is where
    another training starts from the checkpoint."""

    def get_checkpoint_dict(self) -> dict[str, dict[str, Any]]:
        """The task's part of a checkpoint, by the name that fairseq looks for."""
        known = next((counter for counter in counters() if hasattr(counter, "best")), None)
        if known is None:
            return {}
        return {type(self).__name__: {"patience_best": float(known.best), "patience_runs": int(known.num_runs)}}

    def set_checkpoint_dict(self, state: dict[str, Any]) -> None:
        """Set fairseq's counter to what `get_checkpoint_dict` gave."""
        for counter in counters():
            counter.best, counter.num_runs = state["patience_best"], state["patience_runs"]
