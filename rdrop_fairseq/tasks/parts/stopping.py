"""A checkpoint at the moment a training is asked to stop: by SIGUSR1, or by the file that $RDROP_STOP_FILE names.

Slurm warns a job before its time is up. The current update is finished, checkpoint_last.pt is written without a
validation of its own, and fairseq-train ends with status 0; the same command resumes at that update.

One process that was asked is enough: the request travels in what fairseq sums over the processes after each update
anyway, so that all of them stop at the same one. The file serves where a signal reaches the parent of the training
processes first: torchrun, and fairseq-train on several GPUs, die of it and pass nothing on.
"""

from __future__ import annotations

import functools
import logging
import os
import signal
import threading
from typing import Any, Optional

from rdrop_fairseq.tasks.parts.patience import training_modules

FILE = "RDROP_STOP_FILE"
KEY = "asked_to_stop"
logger = logging.getLogger(__name__)


class StopsWhenAsked:
    """Mixin for a fairseq task."""

    _signalled = False
    _listens = False

    def get_batch_iterator(self, *args: Any, **kwargs: Any) -> Any:
        """fairseq's iterator. In a training the process listens to the signal from here on, before any worker of a data
        loader is forked: a signal to all processes of a job would end the workers otherwise, and they the training."""
        if not self._listens and training_modules() and threading.current_thread() is threading.main_thread():
            self._listens = True
            signal.signal(signal.SIGUSR1, self._hear)
        return super().get_batch_iterator(*args, **kwargs)  # type: ignore[misc]

    def train_step(self, *args: Any, **kwargs: Any) -> Any:
        """fairseq's train_step, and in its logging output whether this process was asked to stop."""
        loss, sample_size, logging_output = super().train_step(*args, **kwargs)  # type: ignore[misc]
        return loss, sample_size, {**logging_output, KEY: int(self._signalled or _file_is_there())}

    def _hear(self, number: int, frame: Optional[Any]) -> None:
        self._signalled = True

    def reduce_metrics(self, logging_outputs: list[dict[str, Any]], criterion: Any) -> None:
        """fairseq's reduce_metrics, which it calls with the sums over all processes, right before it decides whether
        to validate and save."""
        super().reduce_metrics(logging_outputs, criterion)  # type: ignore[misc]
        if sum(float(log.get(KEY, 0)) for log in logging_outputs):
            logger.info("asked to stop: saving after this update; the same command resumes there")
            stop_after_this_update()


def _file_is_there() -> bool:
    return os.path.exists(os.environ.get(FILE, ""))


def stop_after_this_update() -> None:
    """Let fairseq-train save and end once it has validated, if this update is one after which it does.

    Its own conditions for stopping are options read before that decision, and each would add a validation, which counts
    for --patience and takes minutes that may be missing. The function that fairseq asks last is replaced instead.
    """
    for module in training_modules():
        decide = module.should_stop_early

        @functools.wraps(decide)  # its attributes too: they count the validations
        def stop(cfg: Any, valid_loss: Optional[float], decide: Any = decide) -> bool:
            decide(cfg, valid_loss)
            return True

        module.should_stop_early = stop
