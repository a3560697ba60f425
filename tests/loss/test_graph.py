"""The loss as a node of autograd's graph: scaled, retained, accumulated, tied, frozen, without gradient."""

from __future__ import annotations

import pytest
import torch
from loss_cases import IMPLS, KINDS, OBJECTIVES, PAD, make_case
from torch.utils.checkpoint import checkpoint

from rdrop_fairseq.errors import UserError
from rdrop_fairseq.loss import linear_rdrop_loss, rdrop_loss

CLOSE = {"rtol": 1e-12, "atol": 1e-12}


def build(kind, seed=1, **kwargs):
    """(loss, leaves, (nll, kl))"""
    case = make_case(2, positions=7, seed=seed)
    (loss, *others), leaves = case.call(kind, alpha=3.0, label_smoothing=0.1, **kwargs)
    return loss, leaves, others


@KINDS
@pytest.mark.parametrize("factor", [3.7, 0.0, -2.0, 65536.0])
def test_upstream_gradient(kind, factor):
    loss, leaves, _ = build(kind, impl="eager")
    expected = [factor * grad for grad in torch.autograd.grad(loss, leaves)]
    loss, leaves, _ = build(kind)
    torch.testing.assert_close(torch.autograd.grad(loss * factor, leaves), tuple(expected), rtol=1e-10, atol=1e-10)


@KINDS
def test_loss_can_be_changed_in_place(kind):
    """fairseq's train_step does `loss *= 0` for the batches that only keep workers in step."""
    loss, leaves, _ = build(kind)
    loss *= 0
    loss.backward()
    assert all(not leaf.grad.any() for leaf in leaves)


def test_accumulation_into_one_weight():
    """The second batch's gradient is added to the first one's; neither overwrites what the other uses."""
    case, other = make_case(2, positions=7), make_case(2, positions=7, seed=2)

    def loss(part):
        return linear_rdrop_loss(part.features, case.weight, part.target, alpha=3.0, ignore_index=PAD)[0]

    expected = [torch.autograd.grad(loss(part), case.weight)[0] for part in (case, other)]
    losses = [loss(part) for part in (case, other)]  # both graphs alive at once
    for value in losses:
        value.backward()
    torch.testing.assert_close(case.weight.grad, expected[0] + expected[1], **CLOSE)


@KINDS
def test_a_second_backward_through_the_same_graph_raises(kind):
    loss, leaves, _ = build(kind)
    loss.backward()
    first = [leaf.grad.clone() for leaf in leaves]
    with pytest.raises(RuntimeError, match="second time"):
        loss.backward()
    torch.testing.assert_close([leaf.grad for leaf in leaves], first, **CLOSE)


@KINDS
@pytest.mark.parametrize("factor", [1.0, 3.7])
def test_a_retained_graph_gives_the_same_gradient_again(kind, factor):
    loss, leaves, _ = build(kind)
    (loss * factor).backward(retain_graph=True)
    first = [leaf.grad.clone() for leaf in leaves]
    for leaf in leaves:
        leaf.grad.mul_(100.0)  # as gradient clipping does: what the graph keeps must not be this memory
        leaf.grad = None
    (loss * factor).backward(retain_graph=True)
    torch.testing.assert_close([leaf.grad for leaf in leaves], first, **CLOSE)
    loss.backward()
    torch.testing.assert_close([leaf.grad for leaf in leaves], [g * (1 + 1 / factor) for g in first], **CLOSE)


@KINDS
def test_a_gradient_to_be_differentiated_is_refused(kind):
    """Not only where nothing else depends on it: a penalty on it, or a Hessian, would silently take it as constant."""
    loss, leaves, _ = build(kind)
    with pytest.raises(UserError, match=r"no second derivative \(create_graph=True\): use impl='eager'"):
        torch.autograd.grad(loss, leaves, create_graph=True)


@KINDS
def test_eager_has_a_second_derivative(kind):
    """The way out that the refusal names: checked against differences of the gradient."""
    case = make_case(2, positions=3)
    rows = (case.features if kind == "linear" else case.logits).detach().requires_grad_()

    def loss(rows):
        options = {"alpha": 3.0, "ignore_index": PAD, "impl": "eager"}
        if kind == "logits":
            return rdrop_loss(rows, case.target, **options)[0]
        return linear_rdrop_loss(rows, case.weight.detach(), case.target, **options)[0]

    assert torch.autograd.gradgradcheck(loss, rows)


@pytest.mark.parametrize("reentrant", [True, False])
@IMPLS
@KINDS
def test_recomputed_in_backward(kind, impl, reentrant):
    """torch's checkpointing, whose reentrant kind runs a backward inside the backward."""
    expected_loss, leaves, _ = build(kind, impl=impl)
    expected = torch.autograd.grad(expected_loss * 3.7, leaves)
    case = make_case(2, positions=7)
    leaves = case.leaves() if kind == "linear" else [case.logits]

    def loss(*inputs):
        options = {"alpha": 3.0, "label_smoothing": 0.1, "ignore_index": PAD, "impl": impl}
        if kind == "logits":
            return rdrop_loss(*inputs, case.target, **options)[0]
        return linear_rdrop_loss(inputs[0], inputs[1], case.target, inputs[2], **options)[0]

    found = checkpoint(loss, *leaves, use_reentrant=reentrant)
    (found * 3.7).backward()
    torch.testing.assert_close(found, expected_loss, **CLOSE)
    torch.testing.assert_close(tuple(leaf.grad for leaf in leaves), expected, **CLOSE)


@KINDS
@IMPLS
def test_nll_and_kl_carry_no_gradient(kind, impl):
    loss, _, (nll, kl) = build(kind, impl=impl)
    assert loss.requires_grad
    assert not nll.requires_grad
    assert not kl.requires_grad


@KINDS
@IMPLS
def test_without_gradient(kind, impl):
    with torch.no_grad():
        loss, _, _ = build(kind, impl=impl)
    assert not loss.requires_grad
    torch.testing.assert_close(loss, build(kind)[0].detach(), **CLOSE)


@pytest.mark.parametrize("factor", [1.0, 3.7])
@pytest.mark.parametrize("twice", [False, True])
def test_tied_embeddings(factor, twice):
    """The projection's weight is the embedding's too: both gradients arrive, also from a retained graph."""
    tokens = torch.tensor([2, 3, 4, 2, 5, 6])
    target = torch.tensor([3, 4, PAD])
    grads = []
    for impl in ("fused", "eager"):
        weight = make_case(2).weight.detach().requires_grad_()
        features = torch.tanh(torch.nn.functional.embedding(tokens, weight))
        loss, *_ = linear_rdrop_loss(features, weight, target, alpha=2.0, ignore_index=PAD, impl=impl)
        if twice:
            (loss * factor).backward(retain_graph=True)
            weight.grad = None
        (loss * factor).backward()
        grads.append(weight.grad)
    torch.testing.assert_close(*grads, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("name", ["rdrop", "js-and-kl", "plain"])
def test_logits_are_not_overwritten(name):
    """--report-accuracy reads them after the loss, and other code may keep them past backward."""
    weights = OBJECTIVES[name]
    case = make_case(weights.views)
    logits = case.logits
    before = logits.detach().clone()
    loss, *_ = rdrop_loss(logits, case.target, weights=weights, ignore_index=PAD)
    assert torch.equal(logits, before)
    loss.backward()
    assert torch.equal(logits, before)


def test_inputs_of_the_projection_are_not_overwritten():
    case = make_case(2)
    before = [leaf.detach().clone() for leaf in case.leaves()]
    linear_rdrop_loss(case.features, case.weight, case.target, case.bias, alpha=1.0, ignore_index=PAD)[0].backward()
    assert all(torch.equal(leaf, old) for leaf, old in zip(case.leaves(), before))


def test_logits_changed_between_forward_and_backward_are_noticed():
    case = make_case(2)
    logits = case.logits * 1.0
    loss, *_ = rdrop_loss(logits, case.target, alpha=1.0, ignore_index=PAD)
    logits.add_(1.0)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()
