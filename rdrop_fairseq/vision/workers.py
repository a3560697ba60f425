"""Several processes that train one model: each has some images of a batch, and all sum what they found."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as distributed
from torch import Tensor, nn

DOWNLOAD = timedelta(hours=2)  # the others wait while the first worker fetches data and weights


@dataclass(frozen=True)
class Workers:
    """This process among those that torchrun started; alone where it did not."""

    rank: int = 0
    world: int = 1

    @property
    def first(self) -> bool:
        """The one that writes and reports."""
        return self.rank == 0

    def sum(self, values: Tensor) -> Tensor:
        """The sum over all workers, in place."""
        if self.world > 1:
            distributed.all_reduce(values)
        return values

    def same(self, model: nn.Module) -> None:
        """Give every worker the first one's weights."""
        if self.world > 1:
            for tensor in (*model.parameters(), *model.buffers()):
                distributed.broadcast(tensor.detach(), 0)

    def wait(self) -> None:
        """Until all are here."""
        if self.world > 1:
            distributed.barrier()


def join() -> tuple[Workers, torch.device]:
    """This process's place and device by torchrun's environment: a GPU each where there are any, else the CPU."""
    world = int(os.environ.get("WORLD_SIZE", "1"))
    local = int(os.environ.get("LOCAL_RANK", "0"))
    device = torch.device("cuda", local) if torch.cuda.is_available() else torch.device("cpu")
    if device.type == "cuda":
        torch.cuda.set_device(device)
    if world == 1:
        return Workers(), device
    backend = "nccl" if device.type == "cuda" else "gloo"
    distributed.init_process_group(backend, timeout=DOWNLOAD)
    return Workers(distributed.get_rank(), world), device


class Gradients:
    """The gradients of all parameters as views of one flat buffer: one call each clears, sums over workers and clips.

    Backward adds to a gradient that is there in place, so the views last as long as nobody sets a gradient to None.
    """

    def __init__(self, parameters: Iterable[nn.Parameter]) -> None:
        parameters = list(parameters)
        self.flat = torch.zeros(sum(p.numel() for p in parameters), device=parameters[0].device)
        start = 0
        for parameter in parameters:
            parameter.grad = self.flat[start : start + parameter.numel()].view_as(parameter)
            start += parameter.numel()

    def clear(self) -> None:
        """All to zero."""
        self.flat.zero_()

    def clip(self, largest: float) -> float:
        """Scale the gradient down to a norm of `largest` (0: leave it); returns its norm before."""
        norm = float(self.flat.norm())
        if largest and norm > largest:
            self.flat.mul_(largest / norm)
        return norm
