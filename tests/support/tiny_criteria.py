"""The criteria of this package on the tiny models, and one training step of them."""

from __future__ import annotations

from typing import Any

import torch
from fairseq.criterions import CRITERION_DATACLASS_REGISTRY, CRITERION_REGISTRY
from tiny_lm import make_lm_task
from tiny_models import EOS, PAD, make_task
from torch import nn

import rdrop_fairseq  # noqa: F401  (registers the criteria)


def make_criterion(name: str, task: Any = None, **options: Any) -> Any:
    """label_smoothed_cross_entropy_NAME with these options, smoothing 0.1 unless given."""
    registered = f"label_smoothed_cross_entropy_{name}"
    settings = {"sentence_avg": False, "label_smoothing": 0.1, **options}
    config = CRITERION_DATACLASS_REGISTRY[registered](**settings)
    return CRITERION_REGISTRY[registered](task or make_task(), config).train()


def make_adaptive(**options: Any) -> Any:
    """adaptive_loss_rdrop for tiny_lm's models with these options."""
    settings = {"sentence_avg": False, "ddp_backend": "legacy_ddp", **options}
    config = CRITERION_DATACLASS_REGISTRY["adaptive_loss_rdrop"](**settings)
    return CRITERION_REGISTRY["adaptive_loss_rdrop"].build_criterion(config, make_lm_task()).train()


def step(criterion: Any, model: nn.Module, sample: dict[str, Any], seed: int = 1) -> tuple[float, dict[str, Any]]:
    """Loss and logging output of a forward and backward; the gradients stay on the model."""
    torch.manual_seed(seed)
    model.zero_grad()
    loss, _, log = criterion(model, sample)
    loss.backward()
    return loss.item(), log


def whole_and_cut(model: nn.Module, sample: dict[str, Any]) -> tuple[torch.Tensor, torch.Tensor]:
    """Log-probabilities [n, V] of the targets' positions for a batch, and as token cutoff at rate 1 leaves it: word 4
    of the model gets a zero embedding and replaces every word but eos."""
    for side in (model.encoder, model.decoder):
        side.embed_tokens.weight.data[4] = 0.0
    inputs, kept = sample["net_input"], sample["target"].ne(PAD)
    cut = {
        key: torch.where(torch.isin(inputs[key], torch.tensor([EOS, PAD])), inputs[key], torch.tensor(4))
        for key in ("src_tokens", "prev_output_tokens")
    }
    whole, blank = (model(**{**inputs, **each})[0].log_softmax(-1)[kept] for each in ({}, cut))
    return whole, blank


def gradients(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
