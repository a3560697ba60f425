"""Which sentences share a batch, in which epoch: the same after a restart, new ones where fairseq composes anew; and
the place in an epoch, on any number of processes."""

from __future__ import annotations

from typing import Any

import pytest
from tiny_fairseq import RDROP, session


def batches(run: Any, epoch: int, **options: Any) -> list[list[int]]:
    iterator = run.trainer.get_train_iterator(epoch, load_dataset=False, **options)
    return [list(map(int, batch)) for batch in iterator.frozen_batches]


@pytest.fixture
def make_run(corpus):
    return lambda *words: session(corpus, "--task", "translation_rdrop", *RDROP, *words)


def test_a_process_that_starts_in_a_later_epoch_has_the_batches_of_the_first(make_run):
    assert batches(make_run(), 3) == batches(make_run(), 1)
    assert batches(make_run("--seed", "2"), 1) != batches(make_run(), 1)


@pytest.mark.parametrize(("words", "options"), [
    (["--grouped-shuffling"], {}),
    ([], {"disable_iterator_cache": True}),  # data in several parts, one for each epoch
])  # fmt: skip
def test_batches_that_fairseq_composes_in_every_epoch(make_run, words, options):
    run = make_run(*words)
    first, second = batches(run, 1, **options), batches(run, 2, **options)
    assert first != second
    assert batches(make_run(*words), 2, **options) == second


def iterator(run: Any, processes: int, rank: int) -> Any:
    run.task.dataset_to_epoch_iter.clear()  # each process has its own
    return run.task.get_batch_iterator(
        run.task.dataset("train"), max_sentences=8, num_shards=processes, shard_id=rank
    )


@pytest.mark.parametrize("processes", [1, 2, 4])
def test_another_number_of_processes_resumes_at_the_same_place(make_run, processes):
    """Two processes have had four of their six batches each: the other four of the twelve are left. fairseq would go on
    after four batches for each process, which on one are four only, and four have no more than three."""
    run = make_run()
    before = iterator(run, 2, 0)
    batches = before.next_epoch_itr()
    for _ in range(4):
        next(batches)
    left = []
    for rank in range(processes):
        resumed = iterator(run, processes, rank)
        resumed.load_state_dict(before.state_dict())
        left += [batch["id"].tolist() for batch in resumed.next_epoch_itr()]
    whole = [batch["id"].tolist() for batch in iterator(run, 1, 0).next_epoch_itr()]
    assert len(whole) == 12
    assert sorted(left) == sorted(whole[8:])


def test_a_checkpoint_of_fairseqs_own_task_is_read(make_run):
    """It does not hold how many batches an epoch has."""
    resumed = iterator(make_run(), 2, 0)
    resumed.load_state_dict({"version": 2, "epoch": 1, "iterations_in_epoch": 4, "shuffle": True})
    assert resumed.iterations_in_epoch == 4
