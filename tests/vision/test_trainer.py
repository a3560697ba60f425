"""One update of image classification beside a naive plain-torch form, and the order of images."""

from __future__ import annotations

import copy
import dataclasses
import itertools

import pytest
import torch
from torch import nn

from rdrop_fairseq.errors import UserError
from rdrop_fairseq.vision import data
from rdrop_fairseq.vision.data import Images, share, updates
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
    trainer = Trainer(ours, options, Workers(), "fp32")
    optimizer = torch.optim.SGD(theirs.parameters(), lr=1.0, momentum=0.9)
    pixels, labels = images(10)
    for done in range(8):
        trainer.update(done, list(zip(pixels.split(4), labels.split(4))), 10)
        optimizer.param_groups[0]["lr"] = lr_at(done, options)
        naive_update(theirs, optimizer, pixels, labels, alpha_at(done, options), clip)
    for mine, other in zip(ours.parameters(), theirs.parameters()):
        torch.testing.assert_close(mine, other, rtol=1e-5, atol=1e-6)
    assert trainer.means()["kl"] > 0


def test_plain_training_is_cross_entropy_of_one_view() -> None:
    options = dataclasses.replace(OPTIONS, rdrop_alpha=None, clip_norm=0.0, warmup_updates=0, momentum=0.0)
    torch.manual_seed(0)
    ours = nn.Sequential(nn.Flatten(), nn.Linear(4, 5))
    theirs = copy.deepcopy(ours)
    pixels, labels = images(6)
    trainer = Trainer(ours, options, Workers(), "fp32")
    trainer.update(0, [(pixels, labels)], 6)
    loss = nn.functional.cross_entropy(theirs(pixels), labels)
    loss.backward()
    torch.testing.assert_close(ours[1].weight, theirs[1].weight - 0.2 * theirs[1].weight.grad)
    right, found = theirs(pixels).argmax(-1).eq(labels).float().mean().item(), loss.item()
    assert trainer.means() == pytest.approx({"loss": found, "nll": found, "kl": 0.0, "accuracy": right}, rel=1e-6)


def test_learning_rate_and_alpha() -> None:
    options = dataclasses.replace(OPTIONS, rdrop_alpha_schedule="lr")
    assert [round(lr_at(done, options), 4) for done in (0, 3, 4, 12)] == [0.05, 0.2, 0.2, 0.1]
    assert 0 < lr_at(19, options) < 0.01
    assert alpha_at(12, options) == pytest.approx(0.3)
    assert alpha_at(12, OPTIONS) == 0.6


def test_a_gradient_that_is_not_finite_ends_the_training() -> None:
    trainer = Trainer(ByHalf(), OPTIONS, Workers(), "fp32")
    pixels, labels = images(4)
    with pytest.raises(UserError, match="update 8: the gradient is not finite"):
        trainer.update(7, [(pixels * float("nan"), labels)], 4)


@pytest.mark.parametrize("world", [1, 2, 3])
def test_every_image_once_an_epoch_whatever_the_workers(world: int) -> None:
    """23 images in batches of 10."""

    def shares(update: int, world: int) -> tuple[list[int], int]:
        found = [share(update, 23, OPTIONS, Workers(rank, world)) for rank in range(world)]
        return sorted(key for keys, _ in found for key in keys), found[0][1]

    for epoch in range(2):
        parts = [shares(update, world) for update in range(3 * epoch, 3 * epoch + 3)]
        assert [len(keys) for keys, _ in parts] == [size for _, size in parts] == [10, 10, 3]
        assert sorted(key for keys, _ in parts for key in keys) == list(range(23 * epoch, 23 * epoch + 23))
    assert shares(4, world) == shares(4, 1)


def test_an_update_comes_in_pieces_of_the_micro_batch() -> None:
    """23 images in batches of 10 and pieces of 4, from update 2 on; the last of three workers has 3, 3 and 1."""
    source = Images(list(zip(*images(23))), range(23), None, 1)

    def sizes(workers: Workers, done: int) -> list[tuple[list[int], int]]:
        found = updates(source, OPTIONS, workers, done)
        return [([len(labels) for _, labels in pieces], size) for pieces, size in itertools.islice(found, 3)]

    assert sizes(Workers(), 1) == [([4, 4, 2], 10), ([3], 3), ([4, 4, 2], 10)]
    assert sizes(Workers(2, 3), 0) == [([3], 10), ([3], 10), ([1], 3)]


def test_pages_are_pinned_for_the_device_that_trains(monkeypatch) -> None:
    """A machine may have a GPU while the CPU trains."""
    asked: list[bool] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(data, "DataLoader", lambda *_, pin_memory, **__: asked.append(pin_memory) or ())
    for device in ("cpu", "cuda"):
        data.every(Images([], [], None, 1), OPTIONS, Workers(device=torch.device(device)))
    assert asked == [False, True]


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_moves_the_weights_as_fp32_does(precision: str) -> None:
    """Eight updates; the fp16 loss is scaled, accumulated, unscaled and clipped."""
    options = dataclasses.replace(OPTIONS, clip_norm=0.3)
    pixels, labels = images(10)
    moved = {}
    for name in ("fp32", precision):
        trainer = Trainer(ByHalf(), options, Workers(), name)
        for done in range(8):
            trainer.update(done, list(zip(pixels.split(4), labels.split(4))), 10)
        moved[name] = torch.cat([p.detach().flatten() for p in trainer.model.parameters()])
    start = torch.cat([p.detach().flatten() for p in ByHalf().parameters()])
    error = (moved[precision] - moved["fp32"]).norm() / (moved["fp32"] - start).norm()
    assert 0 < error < {"bf16": 0.02, "fp16": 0.005}[precision]


def test_an_overflow_in_fp16_is_skipped_and_scaled_down() -> None:
    trainer = Trainer(ByHalf(), OPTIONS, Workers(), "fp16")
    before = [p.detach().clone() for p in trainer.model.parameters()]
    pixels, labels = images(4)
    scale = trainer.scaler.get_scale()
    trainer.update(0, [(pixels * float("inf"), labels)], 4)
    assert all(torch.equal(p, old) for p, old in zip(trainer.model.parameters(), before))
    assert trainer.scaler.get_scale() == scale / 2
    trainer.update(1, [(pixels, labels)], 4)
    assert not torch.equal(next(trainer.model.parameters()), before[0])
    other = Trainer(ByHalf(), OPTIONS, Workers(), "fp16")
    assert other.restore(trainer.state(2)) == 2
    assert other.scaler.get_scale() == scale / 2
