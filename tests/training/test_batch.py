"""Batch arithmetic against numbers worked out by hand."""

from __future__ import annotations

import pytest

from rdrop_fairseq.errors import UserError
from rdrop_fairseq.training.batch import Batch, plan


@pytest.mark.parametrize(
    ("tokens_per_update", "max_tokens", "gpus", "expected"),
    [
        (4096, 4096, 1, (4096, 1)),  # IWSLT14 as published
        (4096, 4096, 2, (2048, 1)),  # more GPUs than the batch fills: each takes its share
        (4096, 4096, 4, (1024, 1)),
        (4096, 1024, 1, (1024, 4)),  # a small GPU
        (524288, 4096, 8, (4096, 16)),  # WMT14 as published
        (524288, 4096, 1, (4096, 128)),
        (524288, 4096, 128, (4096, 1)),
        (65536, 1024, 4, (1024, 16)),  # CNN/DailyMail as published
        (65536, 2048, 16, (2048, 2)),
    ],
)
def test_the_effective_batch_is_kept(
    tokens_per_update: int, max_tokens: int, gpus: int, expected: tuple[int, int]
) -> None:
    batch = plan(tokens_per_update, max_tokens, gpus)
    assert (batch.size, batch.update_freq) == expected
    assert batch.per_update == tokens_per_update


def test_what_does_not_divide_is_refused_with_the_ways_out() -> None:
    with pytest.raises(UserError) as caught:
        plan(524288, 4096, 6)
    assert str(caught.value) == (
        "524288 tokens per update do not divide over 6 devices of 4096 tokens: let CUDA_VISIBLE_DEVICES show "
        "1 or 2 or 4 of them, or give --update-freq 21 (516096 tokens)"
    )


def test_a_share_below_the_longest_sentence_is_refused() -> None:
    """512 tokens per GPU would keep the batch and silently drop every longer sentence."""
    with pytest.raises(UserError, match=r"over 8 devices of 4096 tokens: let CUDA_VISIBLE_DEVICES show 1 or 2 or 4 of"):
        plan(4096, 4096, 8)


def test_a_language_model_takes_whole_blocks() -> None:
    """fairseq skips every block that is larger than a batch: 2,304 tokens for each of 16 GPUs would leave nothing of
    WikiText-103 in blocks of 3,072."""
    assert plan(73_728, 3072, 8, block=3072) == Batch(3072, 3, 8)
    assert plan(73_728, 10_000, 8, block=3072) == Batch(9216, 1, 8)
    assert plan(196_608, 2000, 8, block=512) == Batch(1536, 16, 8)
    assert plan(196_608, 2000, 3, block=512) == Batch(1024, 64, 3)
    with pytest.raises(UserError) as caught:
        plan(73_728, 4096, 16, block=3072)
    assert str(caught.value) == (
        "73728 tokens per update do not divide over 16 devices of 3072 tokens: let CUDA_VISIBLE_DEVICES show "
        "6 or 8 or 12 of them, or give --update-freq 2 (98304 tokens)"
    )
    with pytest.raises(UserError, match=r"2000 tokens hold no block of 3072 .*: give --max-tokens 3072"):
        plan(73_728, 2000, 8, block=3072)


def test_a_batch_reads_as_arithmetic() -> None:
    assert str(Batch(4096, 16, 8)) == "4096 tokens x 8 devices x update-freq 16 = 524288 tokens per update"
    assert str(Batch(4096, 1, 1)) == "4096 tokens x 1 device x update-freq 1 = 4096 tokens per update"


def test_sentences_divide_down_to_one_for_a_gpu() -> None:
    assert plan(16, 16, 1, "sentences") == Batch(16, 1, 1, "sentences")
    assert plan(16, 16, 4, "sentences") == Batch(4, 1, 4, "sentences")
    assert str(plan(32, 8, 2, "sentences")) == "8 sentences x 2 devices x update-freq 2 = 32 sentences per update"
    with pytest.raises(UserError, match="8 sentences per update do not divide over 16 devices of 8 sentences"):
        plan(8, 8, 16, "sentences")
