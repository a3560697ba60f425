"""One update of a classifier with R-Drop, and its evaluation.

An update's loss is the mean over its N images of CE_1 + CE_2 + alpha / 2 (KL_12 + KL_21), whatever the number of
forwards and workers that it is cut into: each piece gives a sum over images, divided by the same N.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable
from typing import Any, Optional

import torch
from torch import Tensor, nn

from rdrop_fairseq.errors import UserError
from rdrop_fairseq.loss import plain_weights, rdrop_loss
from rdrop_fairseq.vision.data import Batch, Images, every, seed_of
from rdrop_fairseq.vision.options import Options
from rdrop_fairseq.vision.workers import Workers

DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
MEANS = ("loss", "nll", "kl", "accuracy")
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


class Trainer:
    """A model with its optimizer, on one of several workers."""

    def __init__(self, model: nn.Module, options: Options, workers: Workers, precision: str) -> None:
        self.model, self.options, self.workers, self.device = model.to(workers.device), options, workers, workers.device
        workers.same(self.model)
        self.parameters = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        sgd = functools.partial(torch.optim.SGD, momentum=options.momentum)
        kind: Any = sgd if options.optimizer == "sgd" else torch.optim.AdamW
        self.optimizer = kind(self.parameters, lr=options.lr, weight_decay=options.weight_decay)
        self.dtype = DTYPES[precision]
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=precision == "fp16")
        self.sums = torch.zeros(5, dtype=torch.float64, device=self.device)  # loss, nll, kl, right answers, images

    def update(self, done: int, pieces: Iterable[Batch], images: int) -> None:
        """The update that follows `done` finished ones, on this worker's pieces of a batch of `images` images.

        pieces: together this worker's share, which may be empty. Dropout is seeded by the update and the worker, so
        that a restart changes nothing. Raises UserError where the gradient is not finite.
        """
        self.model.train()
        torch.manual_seed(seed_of(self.options.seed, done, self.workers.rank))
        alpha = alpha_at(done, self.options)
        self.optimizer.zero_grad()
        for pixels, labels in pieces:
            self.scaler.scale(self.loss(pixels, labels, alpha) / images).backward()
        self.workers.sum_gradients(self.parameters)
        self.scaler.unscale_(self.optimizer)
        norm = float(nn.utils.clip_grad_norm_(self.parameters, self.options.clip_norm or math.inf))
        # an overflow in fp16 is no breakdown: the update is skipped and the loss scaled down
        if not math.isfinite(norm) and (not self.scaler.is_enabled() or self.scaler.get_scale() < SMALLEST_SCALE):
            raise UserError(f"update {done + 1}: the gradient is not finite; take a lower --lr, or --precision fp32")
        for group in self.optimizer.param_groups:
            group["lr"] = lr_at(done, self.options)
        self.scaler.step(self.optimizer)
        self.scaler.update()

    def loss(self, pixels: Tensor, labels: Tensor, alpha: Optional[float]) -> Tensor:
        """The summed loss of some images, two views of each in one forward unless alpha is None."""
        pixels, labels = (tensor.to(self.device, non_blocking=True) for tensor in (pixels, labels))
        views = 1 if alpha is None else 2
        with torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32):
            logits = self.model(torch.cat([pixels] * views))  # views*n x classes
        weights = plain_weights() if alpha is None else None
        loss, nll, kl = rdrop_loss(logits, labels, alpha=alpha, weights=weights, positions=len(labels))
        right = logits.detach().argmax(-1).eq(labels.repeat(views)).sum() / views
        self.sums[:4] += torch.stack([each.detach().double() for each in (loss, nll, kl, right)])
        self.sums[4] += len(labels)
        return loss

    def means(self) -> dict[str, float]:
        """MEANS per image since it was last asked, over all workers: the loss as trained on, nll and kl in nats, the
        share of right answers."""
        *sums, images = self.workers.sum(self.sums).tolist()
        self.sums.zero_()
        return {name: value / max(images, 1) for name, value in zip(MEANS, sums)}

    @torch.no_grad()
    def evaluate(self, images: Images) -> dict[str, float]:
        """Plain cross entropy and accuracy, each image on one worker, in eval mode. Forgets the sums before it."""
        self.model.eval()
        self.sums.zero_()
        for pixels, labels in every(images, self.options, self.workers):
            self.loss(pixels, labels, None)
        return self.means()

    def state(self, done: int) -> dict[str, Any]:
        """What a restart after `done` updates needs. Every worker has to call it."""
        parts = {name: getattr(self, name).state_dict() for name in ("model", "optimizer", "scaler")}
        return {**parts, "update": done, "sums": self.workers.sum(self.sums.clone())}

    def restore(self, state: dict[str, Any]) -> int:
        """Take over what `state` returned; returns the number of updates."""
        if self.workers.first and "sums" in state:  # of all workers; older checkpoints have none
            self.sums.copy_(state["sums"])
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        if state["scaler"] and self.scaler.is_enabled():
            self.scaler.load_state_dict(state["scaler"])
        return int(state["update"])
