"""The criteria of this package on the tiny models, and one training step of them."""

from __future__ import annotations

from typing import Any

import torch
from fairseq.criterions import CRITERION_DATACLASS_REGISTRY, CRITERION_REGISTRY
from tiny_models import make_task
from torch import nn

import rdrop_fairseq  # noqa: F401  (registers the criteria)


def make_criterion(name: str, task: Any = None, **options: Any) -> Any:
    """label_smoothed_cross_entropy_NAME with these options, smoothing 0.1 unless given."""
    registered = f"label_smoothed_cross_entropy_{name}"
    settings = {"sentence_avg": False, "label_smoothing": 0.1, **options}
    config = CRITERION_DATACLASS_REGISTRY[registered](**settings)
    return CRITERION_REGISTRY[registered](task or make_task(), config).train()


def step(criterion: Any, model: nn.Module, sample: dict[str, Any], seed: int = 1) -> tuple[float, dict[str, Any]]:
    """Loss and logging output of a forward and backward; the gradients stay on the model."""
    torch.manual_seed(seed)
    model.zero_grad()
    loss, _, log = criterion(model, sample)
    loss.backward()
    return loss.item(), log


def gradients(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
