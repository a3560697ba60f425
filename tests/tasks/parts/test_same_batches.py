"""Which sentences share a batch, in which epoch: the same after a restart, new ones where fairseq composes anew."""

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
