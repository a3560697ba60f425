"""Several processes that train one model: each has some images of a batch, and all sum what they found."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Callable, TypeVar

import torch
import torch.distributed as distributed
import torch.distributed.nn  # imported within a group, it keeps that alive, whose threads may abort the process at exit
from torch import Tensor, nn

Found = TypeVar("Found")
CPU = torch.device("cpu")
DOWNLOAD = timedelta(hours=2)  # the others wait while one fetches data and weights


@dataclass(frozen=True)
class Workers:
    """This process among those that torchrun started, alone where it did not; and its device."""

    rank: int = 0
    world: int = 1
    device: torch.device = CPU
    local: int = 0  # number among those of its machine

    @property
    def first(self) -> bool:
        """The one that writes and reports."""
        return self.rank == 0

    def sum(self, values: Tensor) -> Tensor:
        """The sum over all workers, in place."""
        if self.world > 1:
            distributed.all_reduce(values)
        return values

    def total(self, value: float) -> float:
        """The sum of a number of each."""
        return self.sum(torch.tensor(float(value), device=self.device)).item()

    def sum_gradients(self, parameters: Sequence[nn.Parameter]) -> None:
        """Over all workers, in place; those of a worker without images are 0."""
        for parameter in parameters if self.world > 1 else ():
            parameter.grad = self.sum(torch.zeros_like(parameter) if parameter.grad is None else parameter.grad)

    def same(self, model: nn.Module) -> None:
        """Give every worker the first one's weights."""
        if self.world > 1:
            for tensor in model.state_dict().values():
                distributed.broadcast(tensor, 0)

    def wait(self) -> None:
        """Until all are here."""
        if self.world > 1:
            distributed.barrier()

    def in_turn(self, fetch: Callable[[], Found]) -> Found:
        """What `fetch` returns, which may download: on the first worker, then on one of each machine, then on the rest.
        So one downloads into a folder that all machines share, else one on each machine; the rest find it there."""
        turn = 0 if self.first else 1 if self.local == 0 else 2
        for _ in range(turn):
            self.wait()
        found = fetch()
        for _ in range(2 - turn):
            self.wait()
        return found


def join() -> Workers:
    """This process by torchrun's environment: a GPU for each where there are any, else the CPU."""
    device, local = CPU, int(os.environ.get("LOCAL_RANK", "0"))
    if torch.cuda.is_available():
        device = torch.device("cuda", local)
        torch.cuda.set_device(device)
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return Workers(device=device)
    distributed.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=DOWNLOAD)
    return Workers(distributed.get_rank(), distributed.get_world_size(), device, local)
