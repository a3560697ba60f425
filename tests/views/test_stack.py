"""Stacking the views of a batch."""

from __future__ import annotations

from typing import NamedTuple

import torch

from rdrop_fairseq.views.stack import stack_views


class Pair(NamedTuple):
    first: torch.Tensor
    second: torch.Tensor


def test_batch_first_tensors():
    tokens = torch.tensor([[1, 2, 3], [4, 5, 6]])
    stacked = stack_views({"src_tokens": tokens, "src_lengths": torch.tensor([3, 2])}, 2, 3)
    assert stacked["src_tokens"].tolist() == [[1, 2, 3], [4, 5, 6]] * 3
    assert stacked["src_lengths"].tolist() == [3, 2] * 3


def test_time_first_tensors():
    """Fault of the earlier codes: every tensor doubled along dim 0, whether its sentences are there or not."""
    states = torch.arange(3 * 2 * 4).view(3, 2, 4)
    stacked = stack_views({"states": states}, 2, 2)["states"]
    assert stacked.shape == (3, 4, 4)
    assert torch.equal(stacked[:, :2], states)
    assert torch.equal(stacked[:, 2:], states)


def test_what_belongs_to_no_sentence_is_passed_on():
    """Fault of the earlier codes: other keys dropped."""
    table, number = torch.zeros(5, 7), torch.tensor(3.0)
    net_input = {"table": table, "number": number, "flag": True, "text": "abc", "nothing": None}
    stacked = stack_views(net_input, 2, 2)
    assert stacked.keys() == net_input.keys()
    assert all(stacked[key] is value for key, value in net_input.items())


def test_containers_are_walked():
    lengths = torch.tensor([3, 2])
    net_input = {"extra": {"a": [lengths, None], "b": (lengths, "x")}, "pair": Pair(lengths, torch.zeros(5, 7))}
    stacked = stack_views(net_input, 2, 2)
    assert stacked["extra"]["a"][0].tolist() == [3, 2, 3, 2]
    assert stacked["extra"]["a"][1] is None
    assert stacked["extra"]["b"][0].tolist() == [3, 2, 3, 2]
    assert isinstance(stacked["extra"]["b"], tuple)
    assert isinstance(stacked["pair"], Pair)
    assert stacked["pair"].first.tolist() == [3, 2, 3, 2]


def test_what_was_given_is_untouched():
    inner = {"lengths": torch.tensor([3, 2])}
    net_input = {"inner": inner, "tokens": torch.ones(2, 3)}
    stack_views(net_input, 2, 2)["inner"]["lengths"][0] = 99
    assert net_input["inner"] is inner
    assert inner["lengths"].tolist() == [3, 2]
    assert net_input["tokens"].shape == (2, 3)
