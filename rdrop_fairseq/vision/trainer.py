"""One update of a classifier with R-Drop, and its evaluation.

An update's loss is the mean over its N images of CE_1 + CE_2 + alpha / 2 (KL_12 + KL_21), whatever the number of
forwards and workers that it is cut into: each piece gives a sum over images, divided by the same N.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Optional

import torch
from torch import Tensor, nn

from rdrop_fairseq.errors import UserError
from rdrop_fairseq.loss import plain_weights, rdrop_loss
from rdrop_fairseq.vision.data import seed_of
from rdrop_fairseq.vision.options import Options
from rdrop_fairseq.vision.workers import Gradients, Workers

DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
SMALLEST_SCALE = 1.0  # of the fp16 loss: below, even unscaled gradients overflow


def lr_at(done: int, options: Options) -> float:
    """The learning rate of the update that follows `done` finished ones: linear warm-up, then half a cosine to 0."""
    if done < options.warmup_updates:
        return options.lr * (done + 1) / options.warmup_updates
    share = (done - options.warmup_updates) / (options.updates - options.warmup_updates)
    return options.lr * 0.5 * (1 + math.cos(math.pi * share))


def alpha_at(done: int, options: Options) -> Optional[float]:
    """The alpha of that update; None for plain training."""
    if options.rdrop_alpha is None or options.rdrop_alpha_schedule == "constant":
        return options.rdrop_alpha
    return options.rdrop_alpha * lr_at(done, options) / options.lr


def make_optimizer(model: nn.Module, options: Options) -> torch.optim.Optimizer:
    """SGD with momentum or AdamW on all parameters; the learning rate is set for each update."""
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if options.optimizer == "sgd":
        return torch.optim.SGD(parameters, lr=options.lr, momentum=options.momentum, weight_decay=options.weight_decay)
    return torch.optim.AdamW(parameters, lr=options.lr, weight_decay=options.weight_decay)


@dataclass(frozen=True)
class Means:
    """Per image: loss as trained on, nll and kl in nats; share of right answers."""

    loss: float
    nll: float
    kl: float
    accuracy: float


class Trainer:
    """A model with its optimizer, on one of several workers."""

    def __init__(
        self, model: nn.Module, options: Options, device: torch.device, precision: str, workers: Workers
    ) -> None:
        self.model, self.options, self.device, self.workers = model.to(device), options, device, workers
        workers.same(self.model)
        self.optimizer = make_optimizer(self.model, options)
        self.gradients = Gradients(p for group in self.optimizer.param_groups for p in group["params"])
        self.dtype = DTYPES[precision]
        self.scaler = torch.amp.GradScaler(device.type, enabled=precision == "fp16")
        self.sums = torch.zeros(5, dtype=torch.float64, device=device)  # loss, nll, kl, right answers, images

    def update(self, done: int, pieces: Iterable[tuple[Tensor, Tensor]], images: int) -> None:
        """The update that follows `done` finished ones, on this worker's pieces of a batch of `images` images.

        pieces: ([n, C, H, W], [n] int64), together this worker's share, which may be empty. Dropout is seeded by the
        update and the worker, so that a restart changes nothing. UserError where the gradient is not finite.
        """
        self.model.train()
        torch.manual_seed(seed_of(self.options.seed, done, self.workers.rank))
        alpha = alpha_at(done, self.options)
        self.gradients.clear()
        for pixels, labels in pieces:
            loss = self.loss(pixels, labels, alpha)
            self.scaler.scale(loss / images).backward()
        self.workers.sum(self.gradients.flat)
        self.scaler.unscale_(self.optimizer)
        self.check(done, self.gradients.clip(self.options.clip_norm))
        for group in self.optimizer.param_groups:
            group["lr"] = lr_at(done, self.options)
        self.scaler.step(self.optimizer)
        self.scaler.update()

    def loss(self, pixels: Tensor, labels: Tensor, alpha: Optional[float]) -> Tensor:
        """The summed loss of some images, two views of each in one forward unless alpha is None."""
        pixels, labels = self.moved(pixels), self.moved(labels)
        views = 1 if alpha is None else 2
        with torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32):
            logits = self.model(torch.cat([pixels] * views))  # views*n x classes
        weights = plain_weights() if alpha is None else None
        loss, nll, kl = rdrop_loss(logits, labels, alpha=alpha, weights=weights)
        right = logits.detach().argmax(-1).eq(labels.repeat(views)).sum() / views
        found = (loss.detach(), nll, kl, right, labels.new_tensor(len(labels)))
        self.sums += torch.stack([each.double() for each in found])
        return loss

    def check(self, done: int, norm: float) -> None:
        """UserError where training has broken down; under fp16 an overflow is skipped and the loss scaled down."""
        if not math.isfinite(norm) and (not self.scaler.is_enabled() or self.scaler.get_scale() < SMALLEST_SCALE):
            raise UserError(f"update {done + 1}: the gradient is not finite; take a lower --lr, or --precision fp32")

    def means(self) -> Means:
        """Over the images since it was last asked, of all workers."""
        *sums, images = self.workers.sum(self.sums).tolist()
        self.sums.zero_()
        return Means(*(value / max(images, 1) for value in sums))

    @torch.no_grad()
    def evaluate(self, pieces: Iterable[tuple[Tensor, Tensor]]) -> tuple[Means, Tensor]:
        """Plain cross entropy and accuracy over all workers' images, model in eval mode; and this worker's answers."""
        self.model.eval()
        kept, answers = self.sums.clone(), []
        self.sums.zero_()
        for pixels, labels in pieces:
            with torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32):
                logits = self.model(self.moved(pixels))
            answers.append(logits.argmax(-1).cpu())
            nll = nn.functional.cross_entropy(logits.float(), self.moved(labels), reduction="sum")
            right = answers[-1].eq(labels).sum()
            self.sums += self.sums.new_tensor([float(nll), float(nll), 0.0, int(right), len(labels)])
        means = self.means()
        self.sums.copy_(kept)
        return means, torch.cat(answers) if answers else torch.empty(0, dtype=torch.int64)

    def moved(self, tensor: Tensor) -> Tensor:
        """On the device of the model."""
        return tensor.to(self.device, non_blocking=True)

    def state(self) -> dict[str, object]:
        """What a restart needs beside the number of updates."""
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
        }

    def restore(self, state: dict[str, dict[str, object]]) -> None:
        """Take over what `state` returned."""
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        if state["scaler"] and self.scaler.is_enabled():
            self.scaler.load_state_dict(state["scaler"])
