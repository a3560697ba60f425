"""The same batches after a restart.

fairseq composes batches once, in the first epoch of a process, by a random order that it seeds with the epoch, and uses
them for all epochs. A training that resumes in a later epoch would therefore get other batches than it had: in the
epoch that was interrupted some sentences would come twice and others not at all.

Nor does fairseq's place in an epoch, the number of batches that each process has had, hold for another number of
processes: with half as many, half of what was read would come again, and with twice as many the other half would be
left out, or there would be no such place at all, and the training could not resume.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from fairseq.data import data_utils


class SameBatches:
    """Mixin for a fairseq task: batches that are kept for all epochs are composed as those of the first epoch are,
    whichever epoch the process starts in."""

    def get_batch_iterator(self, dataset: Any, *args: Any, **kwargs: Any) -> Any:
        """fairseq's iterator. Where it composes batches anew in each epoch (several parts of data, --grouped-shuffling,
        --update-epoch-batch-itr), the epoch decides, after a restart as well."""
        anew = kwargs.get("disable_iterator_cache") or kwargs.get("update_epoch_batch_itr")
        if not anew and self.can_reuse_epoch_itr(dataset):  # type: ignore[attr-defined]
            dataset.ordered_indices = partial(ordered_indices, dataset, kwargs.get("seed", 1) + 1)
        iterator = super().get_batch_iterator(dataset, *args, **kwargs)  # type: ignore[misc]
        if "state_dict" not in vars(iterator):  # fairseq may have kept it from an epoch before
            iterator.load_state_dict = partial(load_place, iterator, iterator.load_state_dict)
            iterator.state_dict = partial(place, iterator, iterator.state_dict)
        return iterator


def ordered_indices(dataset: Any, seed: int) -> Any:
    """The order of the sentences that the data set's class draws under this seed."""
    with data_utils.numpy_seed(seed):
        return type(dataset).ordered_indices(dataset)


def place(iterator: Any, own: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """fairseq's state of an iterator, and how many batches an epoch has for each process."""
    return {**own(), "iterations_of_epoch": len(iterator)}


def load_place(iterator: Any, own: Callable[[dict[str, Any]], None], state: dict[str, Any]) -> None:
    """Restores the same place from the result of `place`, for any number of processes."""
    before, now = state.get("iterations_of_epoch"), len(iterator)
    if before and before != now:
        state = {**state, "iterations_in_epoch": state["iterations_in_epoch"] * now // before}
    own(state)
