"""One update of image classification beside a naive plain-torch form, and the order of images."""

from __future__ import annotations

import copy
import dataclasses

import pytest
import torch
from torch import nn

from rdrop_fairseq.errors import UserError
from rdrop_fairseq.vision.data import Order, pieces
from rdrop_fairseq.vision.options import Options
from rdrop_fairseq.vision.trainer import Trainer, alpha_at, lr_at
from rdrop_fairseq.vision.workers import Workers

OPTIONS = Options(
    dataset="digits", classes=5, image_size=2, updates=20, warmup_updates=4, lr=0.2, batch=10, micro_batch=4, workers=0,
    rdrop_alpha=0.6, momentum=0.9,
)  # fmt: skip


class ByHalf(nn.Module):
    """A classifier whose second view of a batch differs by rule instead of by dropout."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.body = nn.Sequential(nn.Flatten(), nn.Linear(4, 16), nn.Tanh())
        self.head = nn.Linear(16, 5)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        hidden = self.body(pixels)
        if self.training:
            hidden = torch.cat([hidden[: len(hidden) // 2], 0.7 * hidden[len(hidden) // 2 :]])
        return self.head(hidden)


def images(count: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(count, 1, 2, 2, generator=generator), torch.randint(5, (count,), generator=generator)


def naive_update(model, optimizer, pixels, labels, alpha, clip) -> None:
    """The paper's formula, mean over images, in plain torch."""
    optimizer.zero_grad()
    log_p, log_q = model(torch.cat([pixels, pixels])).log_softmax(-1).chunk(2)
    ce = nn.functional.nll_loss(log_p, labels) + nn.functional.nll_loss(log_q, labels)
    kl = (log_p.exp() * (log_p - log_q)).sum(-1).mean() + (log_q.exp() * (log_q - log_p)).sum(-1).mean()
    (ce + alpha / 2 * kl).backward()
    if clip:
        nn.utils.clip_grad_norm_(model.parameters(), clip)
    optimizer.step()


@pytest.mark.parametrize("clip", [0.0, 0.3])
@pytest.mark.parametrize("schedule", ["constant", "lr"])
def test_updates_are_those_of_the_naive_form(clip: float, schedule: str) -> None:
    """Accumulated over pieces of 4, 4 and 2 images, with momentum, warm-up and cosine."""
    options = dataclasses.replace(OPTIONS, clip_norm=clip, rdrop_alpha_schedule=schedule)
    ours, theirs = ByHalf(), ByHalf()
    trainer = Trainer(ours, options, torch.device("cpu"), "fp32", Workers())
    optimizer = torch.optim.SGD(theirs.parameters(), lr=1.0, momentum=0.9)
    pixels, labels = images(10)
    for done in range(8):
        trainer.update(done, list(zip(pixels.split(4), labels.split(4))), 10)
        optimizer.param_groups[0]["lr"] = lr_at(done, options)
        naive_update(theirs, optimizer, pixels, labels, alpha_at(done, options), clip)
    for mine, other in zip(ours.parameters(), theirs.parameters()):
        torch.testing.assert_close(mine, other, rtol=1e-5, atol=1e-6)
    assert trainer.means().kl > 0


def test_plain_training_is_cross_entropy_of_one_view() -> None:
    options = dataclasses.replace(OPTIONS, rdrop_alpha=None, clip_norm=0.0, warmup_updates=0, momentum=0.0)
    torch.manual_seed(0)
    ours = nn.Sequential(nn.Flatten(), nn.Linear(4, 5))
    theirs = copy.deepcopy(ours)
    pixels, labels = images(6)
    trainer = Trainer(ours, options, torch.device("cpu"), "fp32", Workers())
    trainer.update(0, [(pixels, labels)], 6)
    loss = nn.functional.cross_entropy(theirs(pixels), labels)
    loss.backward()
    torch.testing.assert_close(ours[1].weight, theirs[1].weight - 0.2 * theirs[1].weight.grad)
    means = trainer.means()
    assert means.loss == pytest.approx(loss.item(), rel=1e-6)
    assert (means.nll, means.kl) == (means.loss, 0.0)
    assert means.accuracy == pytest.approx(theirs(pixels).argmax(-1).eq(labels).float().mean().item())


def test_learning_rate_and_alpha() -> None:
    options = dataclasses.replace(OPTIONS, rdrop_alpha_schedule="lr")
    assert [round(lr_at(done, options), 4) for done in (0, 3, 4, 12)] == [0.05, 0.2, 0.2, 0.1]
    assert 0 < lr_at(19, options) < 0.01
    assert alpha_at(12, options) == pytest.approx(0.3)
    assert alpha_at(12, OPTIONS) == 0.6


def test_a_gradient_that_is_not_finite_ends_the_training() -> None:
    trainer = Trainer(ByHalf(), OPTIONS, torch.device("cpu"), "fp32", Workers())
    pixels, labels = images(4)
    with pytest.raises(UserError, match="update 8: the gradient is not finite"):
        trainer.update(7, [(pixels * float("nan"), labels)], 4)


@pytest.mark.parametrize("world", [1, 2, 3])
def test_every_image_once_an_epoch_whatever_the_workers(world: int) -> None:
    orders = [Order(23, 10, seed=5, rank=rank, world=world) for rank in range(world)]
    for epoch in range(2):
        updates = range(3 * epoch, 3 * epoch + 3)
        seen = [sorted(key for order in orders for key in order.mine(update)) for update in updates]
        assert [len(part) for part in seen] == [orders[0].size(update) for update in updates] == [10, 10, 3]
        assert sorted(number for part in seen for _, number in part) == list(range(23))
    alone = Order(23, 10, seed=5)
    assert sorted(key for order in orders for key in order.mine(4)) == sorted(alone.mine(4))
    assert [len(piece) for piece in pieces(alone.mine(0), 4)] == [4, 4, 2]


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_moves_the_weights_as_fp32_does(precision: str) -> None:
    """Eight updates; the fp16 loss is scaled, accumulated, unscaled in the flat buffer and clipped."""
    options = dataclasses.replace(OPTIONS, clip_norm=0.3)
    pixels, labels = images(10)
    moved = {}
    for name in ("fp32", precision):
        trainer = Trainer(ByHalf(), options, torch.device("cpu"), name, Workers())
        for done in range(8):
            trainer.update(done, list(zip(pixels.split(4), labels.split(4))), 10)
        moved[name] = torch.cat([p.detach().flatten() for p in trainer.model.parameters()])
    start = torch.cat([p.detach().flatten() for p in ByHalf().parameters()])
    error = (moved[precision] - moved["fp32"]).norm() / (moved["fp32"] - start).norm()
    assert 0 < error < {"bf16": 0.02, "fp16": 0.005}[precision]


def test_an_overflow_in_fp16_is_skipped_and_scaled_down() -> None:
    trainer = Trainer(ByHalf(), OPTIONS, torch.device("cpu"), "fp16", Workers())
    before = [p.detach().clone() for p in trainer.model.parameters()]
    pixels, labels = images(4)
    scale = trainer.scaler.get_scale()
    trainer.update(0, [(pixels * float("inf"), labels)], 4)
    assert all(torch.equal(p, old) for p, old in zip(trainer.model.parameters(), before))
    assert trainer.scaler.get_scale() == scale / 2
    trainer.update(1, [(pixels, labels)], 4)
    assert not torch.equal(next(trainer.model.parameters()), before[0])
    other = Trainer(ByHalf(), OPTIONS, torch.device("cpu"), "fp16", Workers())
    other.restore(trainer.state())
    assert other.scaler.get_scale() == scale / 2
