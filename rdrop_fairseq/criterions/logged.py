"""Logged quantities and their units, in addition to fairseq's.

nll_loss (fairseq's key): negative log-likelihood per token in bits, mean over views, so that ppl is a perplexity.
rdrop_kl: divergence between views per token in bits, over the updates that have several views.
rdrop_alpha: effective weight of the divergence, mean over tokens.
"""

from __future__ import annotations

import math
from typing import Any

from fairseq.logging import metrics

from rdrop_fairseq.loss import ViewWeights


def logged_divergence(kl: Any, weights: ViewWeights, positions: int) -> dict[str, Any]:
    """The logging outputs of one training step. kl: sum over the `positions` of one view, in nats."""
    return {
        "rdrop_kl": kl,
        "rdrop_ntokens": positions if weights.views > 1 else 0,
        "rdrop_alpha": weights.kl_total * positions,
        "rdrop_trained_ntokens": positions,
    }


def log_divergence(logging_outputs: list[dict[str, Any]]) -> None:
    """Logs the mean divergence, if any update of this interval compared views, and the mean effective alpha."""
    compared = total(logging_outputs, "rdrop_ntokens")
    if compared > 0:
        kl = total(logging_outputs, "rdrop_kl") / compared / math.log(2)
        metrics.log_scalar("rdrop_kl", kl, compared, round=4)
    trained = total(logging_outputs, "rdrop_trained_ntokens")
    if trained > 0:
        metrics.log_scalar("rdrop_alpha", total(logging_outputs, "rdrop_alpha") / trained, trained, round=4)


def total(logging_outputs: list[dict[str, Any]], key: str) -> float:
    """The sum of a logged quantity over batches and workers."""
    return float(sum(log.get(key, 0) for log in logging_outputs))
