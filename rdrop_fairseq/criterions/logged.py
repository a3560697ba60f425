"""What is logged beside fairseq's own quantities, and in which unit.

nll_loss (fairseq's key): negative log-likelihood per token, mean over views, so that ppl is a perplexity.
rdrop_kl: mean divergence between views per token of the updates that had one, in bits like the losses beside it.
rdrop_alpha: effective weight of the divergence, mean over tokens.
"""

from __future__ import annotations

import math
from typing import Any

from fairseq.logging import metrics

from rdrop_fairseq.loss import ViewWeights


def logged_divergence(kl: Any, weights: ViewWeights, positions: int) -> dict[str, Any]:
    """The logging outputs of one training step; kl: sum over the `positions` of one view, in nats."""
    return {
        "rdrop_kl": kl,
        "rdrop_ntokens": positions if weights.views > 1 else 0,
        "rdrop_alpha": weights.kl_total * positions,
        "rdrop_trained_ntokens": positions,
    }


def log_divergence(logging_outputs: list[dict[str, Any]]) -> None:
    """Log the divergence, 0 included, if any update of this interval had one, and the mean effective alpha."""
    compared = _total(logging_outputs, "rdrop_ntokens")
    if compared > 0:
        kl = _total(logging_outputs, "rdrop_kl") / compared / math.log(2)
        metrics.log_scalar("rdrop_kl", kl, compared, round=4)
    trained = _total(logging_outputs, "rdrop_trained_ntokens")
    if trained > 0:
        metrics.log_scalar("rdrop_alpha", _total(logging_outputs, "rdrop_alpha") / trained, trained, round=4)


def _total(logging_outputs: list[dict[str, Any]], key: str) -> float:
    return float(sum(log.get(key, 0) for log in logging_outputs))
