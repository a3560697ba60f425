"""Inputs of the loss: random but fixed features, projection and targets, and objectives of every kind."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Optional

import pytest
import torch
from torch import Tensor

from rdrop_fairseq.loss import (
    ViewWeights,
    cutoff_weights,
    linear_rdrop_loss,
    plain_weights,
    rdrop_loss,
    rdrop_weights,
    simcut_weights,
)

PAD = 1
KINDS = pytest.mark.parametrize("kind", ["logits", "linear"])
IMPLS = pytest.mark.parametrize("impl", ["fused", "eager"])

# Every shape an objective can have: symmetric and not, one-sided, without a KL, with JS, one to three views.
OBJECTIVES = {
    "rdrop": rdrop_weights(5.0),
    "rdrop-weak": rdrop_weights(1e-4),
    "rdrop-three-views": rdrop_weights(2.0, views=3),
    "alpha-zero": rdrop_weights(0.0),
    "plain": plain_weights(2.0),
    "simcut": simcut_weights(3.0),
    "asymmetric": ViewWeights((0.3, 2.0), ((0.0, 1.5), (0.2, 0.0))),
    "asymmetric-three-views": ViewWeights((1.0, 0.0, 0.5), ((0.0, 1.0, 0.0), (0.3, 0.0, 2.0), (0.0, 0.7, 0.0))),
    "divergence-only": ViewWeights((0.0, 0.0), ((0.0, 1.0), (1.0, 0.0))),
    "js": cutoff_weights((0.5,), 2.0),
    "js-three-views": cutoff_weights((0.5, 0.0), 2.0),
    "js-and-kl": ViewWeights((1.0, 1.0), ((0.0, 0.4), (1.1, 0.0)), js=0.8),
}


@dataclass
class Case:
    """Leaves that require a gradient, and targets; `logits` is what the features project to."""

    features: Tensor  # m*n x d
    weight: Tensor  # V x d
    bias: Optional[Tensor]  # V
    target: Tensor  # n

    @property
    def logits(self) -> Tensor:
        """[m*n, V], a leaf."""
        with torch.no_grad(), torch.autocast("cpu", enabled=False):
            logits = torch.nn.functional.linear(self.features, self.weight, self.bias)
        return logits.requires_grad_()

    def leaves(self) -> list[Tensor]:
        """The inputs that have gradients."""
        return [tensor for tensor in (self.features, self.weight, self.bias) if tensor is not None]

    def call(self, kind: str, **options: Any) -> tuple[tuple[Tensor, Tensor, Tensor], list[Tensor]]:
        """(loss, nll, kl) of the logits, or of what makes them if `kind` is "linear", and the leaves of the graph."""
        options = {"ignore_index": PAD, **options}
        if kind == "logits":
            logits = self.logits
            return rdrop_loss(logits, self.target, **options), [logits]
        return linear_rdrop_loss(self.features, self.weight, self.target, self.bias, **options), self.leaves()

    def solve(self, kind: str, factor: float = 1.0, **options: Any) -> list[Tensor]:
        """[loss, nll, kl, gradients of the loss times `factor`...]"""
        values, leaves = self.call(kind, **options)
        return [*values, *torch.autograd.grad(values[0] * factor, leaves)]

    def to(self, dtype: torch.dtype) -> Case:
        """The same values in another dtype."""

        def cast(tensor: Tensor) -> Tensor:
            return tensor.detach().to(dtype).requires_grad_()

        bias = None if self.bias is None else cast(self.bias)
        return Case(cast(self.features), cast(self.weight), bias, self.target)


def make_case(
    views: int,
    positions: int = 5,
    width: int = 4,
    classes: int = 7,
    bias: bool = True,
    padding: bool = True,
    dtype: torch.dtype = torch.float64,
    seed: int = 1,
) -> Case:
    """Views that are near each other, as dropout makes them; with `padding` two of the positions do not count."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int, scale: float = 1.0) -> Tensor:
        return scale * torch.randn(*shape, generator=generator, dtype=torch.float64)

    base = normal(positions, width)
    features = torch.cat([base + normal(positions, width, scale=0.4) for _ in range(views)])
    target = torch.randint(PAD + 1, classes, (positions,), generator=generator)
    if padding:
        target[1] = target[positions - 1] = PAD
    case = Case(
        features.requires_grad_(),
        normal(classes, width).requires_grad_(),
        normal(classes).requires_grad_() if bias else None,
        target,
    )
    return case if dtype == torch.float64 else case.to(dtype)
