"""The host does not wait for the device between a batch's arrival and its gradients; a CUDA graph can hold the loss."""

from __future__ import annotations

import pytest
import torch
from loss_cases import OBJECTIVES, PAD

from rdrop_fairseq.loss import linear_rdrop_loss, rdrop_loss

TOKENS, WIDTH, CLASSES = 256, 64, 5003


def make_inputs(gpu, dtype, views=2):
    draw = torch.Generator(device=gpu).manual_seed(1)
    features = torch.randn(views * TOKENS, WIDTH, device=gpu, generator=draw).to(dtype).requires_grad_()
    weight = torch.randn(CLASSES, WIDTH, device=gpu, generator=draw).mul_(WIDTH**-0.5).to(dtype).requires_grad_()
    target = torch.randint(PAD + 1, CLASSES, (TOKENS,), device=gpu, generator=draw)
    target[::7] = PAD
    return features, weight, target


def count(target):
    return int(target.ne(PAD).sum())


def solve(features, weight, target, positions, name="rdrop", impl="auto"):
    loss, nll, kl = linear_rdrop_loss(
        features, weight, target, weights=OBJECTIVES[name], label_smoothing=0.1, ignore_index=PAD,
        positions=positions, impl=impl,
    )  # fmt: skip
    return [loss.detach(), nll, kl, *torch.autograd.grad(loss, (features, weight))]


def near(found, right, tolerance=1e-2):
    """Whether each tensor is the other up to so much of its norm; products may take another way on another stream."""
    pairs = zip(found, right)
    return all((a.float() - b.float()).norm() <= tolerance * b.float().norm() + 1e-6 for a, b in pairs)


@pytest.fixture
def no_waiting(gpu):
    """A context in which an operation that waits for the device raises."""

    class Context:
        def __enter__(self):
            torch.cuda.synchronize()
            torch.cuda.set_sync_debug_mode("error")

        def __exit__(self, *_):
            torch.cuda.set_sync_debug_mode("default")

    return Context()


def test_the_check_can_fail(gpu, no_waiting):
    value = torch.ones(3, device=gpu)
    with pytest.raises(RuntimeError, match="synchroniz"), no_waiting:
        value.sum().item()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("impl", ["auto", "fused-torch"])
def test_features_to_gradients_without_waiting(gpu, no_waiting, dtype, impl):
    names = ("rdrop", "simcut", "plain", "rdrop-three-views", "js")
    inputs = {name: make_inputs(gpu, dtype, OBJECTIVES[name].views) for name in names}
    positions = count(inputs["rdrop"][2])
    right = {name: solve(*inputs[name], positions, name, impl) for name in names}  # the self-check waits, once
    with no_waiting:
        found = {name: solve(*inputs[name], positions, name, impl) for name in names}
    for name in names:
        assert near(found[name], right[name]), name


def test_logits_to_gradients_without_waiting(gpu, no_waiting):
    _, _, target = make_inputs(gpu, torch.float32)
    logits = torch.randn(2 * TOKENS, CLASSES, device=gpu, requires_grad=True)
    positions = count(target)

    def gradient():
        loss, *_ = rdrop_loss(logits, target, alpha=5.0, ignore_index=PAD, positions=positions)
        return torch.autograd.grad(loss, logits)[0]

    right = gradient()
    with no_waiting:
        found = gradient()
    assert near([found], [right])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_a_cuda_graph_replays_the_loss_on_new_inputs(gpu, dtype):
    features, weight, target = make_inputs(gpu, dtype)
    positions = count(target)
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):  # compiles and checks itself before the capture
        for _ in range(3):
            solve(features, weight, target, positions)
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = solve(features, weight, target, positions)
    with torch.no_grad():
        features.normal_()
        target.copy_(target.flip(0))
    graph.replay()
    torch.cuda.synchronize()
    found = [each.clone() for each in captured]
    assert near(found, solve(features, weight, target, positions))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_another_stream(gpu, dtype):
    """The loss runs on the stream that is current, kernel and products alike."""
    features, weight, target = make_inputs(gpu, dtype)
    positions = count(target)
    right = solve(features, weight, target, positions)
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        found = solve(features, weight, target, positions)
    side.synchronize()
    assert near(found, right)


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="there is one GPU at most")
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_a_gpu_that_is_not_the_current_one(gpu, dtype):
    features, weight, target = make_inputs(gpu, dtype)
    right = solve(features, weight, target, count(target))
    other = torch.device("cuda", 1)
    moved = [each.detach().to(other).requires_grad_(each.requires_grad) for each in (features, weight, target)]
    found = solve(*moved, count(target))
    assert near([each.to(gpu) for each in found], right)
