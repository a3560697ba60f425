"""Views of a batch: the same sentences several times along the batch dimension, each with its own dropout."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def stack_views(net_input: dict[str, Any], sentences: int, views: int) -> dict[str, Any]:
    """A new `net_input` with every sentence `views` times, view i in rows i*B..(i+1)*B. The given one is not changed.

    net_input: the keyword arguments of a fairseq model, containers included. Tensors [B, ...] with B = `sentences` are
    repeated along dimension 0, tensors [T, B, ...] with T != B along dimension 1. All else (scalars, tables without a
    batch dimension) is passed on unchanged.
    """
    return {key: _repeat(value, sentences, views) for key, value in net_input.items()}


def _repeat(value: Any, sentences: int, views: int) -> Any:
    if torch.is_tensor(value):
        return _repeat_tensor(value, sentences, views)
    if isinstance(value, dict):
        return {key: _repeat(item, sentences, views) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        items = [_repeat(item, sentences, views) for item in value]
        return type(value)(*items) if hasattr(value, "_fields") else type(value)(items)  # NamedTuple(*items)
    return value


def _repeat_tensor(value: Tensor, sentences: int, views: int) -> Tensor:
    if value.dim() and value.size(0) == sentences:
        return torch.cat([value] * views, dim=0)
    if value.dim() > 1 and value.size(1) == sentences:
        return torch.cat([value] * views, dim=1)
    return value
