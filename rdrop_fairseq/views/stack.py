"""Views of a batch: the same sentences several times along the batch dimension, each to meet its own dropout."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def stack_views(net_input: dict[str, Any], sentences: int, views: int) -> dict[str, Any]:
    """A new `net_input` with every sentence `views` times: view i is rows i*B..(i+1)*B; the given one is untouched.

    net_input: the keyword arguments of a fairseq model. Tensors of B = `sentences` rows are repeated along their first
    dimension, time-first ones ([T, B, ...], T other than B) along the second; containers are walked; everything
    else (scalars, tables that belong to no sentence) is passed on as it is.
    """
    return {key: _repeat(value, sentences, views) for key, value in net_input.items()}


def _repeat(value: Any, sentences: int, views: int) -> Any:
    if torch.is_tensor(value):
        return _repeat_tensor(value, sentences, views)
    if isinstance(value, dict):
        return {key: _repeat(item, sentences, views) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        items = [_repeat(item, sentences, views) for item in value]
        return type(value)(*items) if hasattr(value, "_fields") else type(value)(items)  # a NamedTuple wants them apart
    return value


def _repeat_tensor(value: Tensor, sentences: int, views: int) -> Tensor:
    if value.dim() and value.size(0) == sentences:
        return torch.cat([value] * views, dim=0)
    if value.dim() > 1 and value.size(1) == sentences:
        return torch.cat([value] * views, dim=1)
    return value
