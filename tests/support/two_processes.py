"""Started by torchrun: trains each of the given models for three updates and lets rank 0 write what came out.

    torchrun --nproc_per_node 2 two_processes.py DATA OUT [DEVICE BACKEND RUN...]

DATA: a corpus, and in DATA/text a text for language models.

Without torchrun, the same in one process on both halves of each batch. The views of a batch differ by rule, not by
dropout, whose random numbers could not be the same for one process and two.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import tiny_lm
import torch
from fairseq.distributed import utils as distributed
from fairseq.models import distributed_fairseq_model
from tiny_fairseq import RDROP, Session, config, session, start
from tiny_models import make_model, make_sample, make_task

from rdrop_fairseq import views
from rdrop_fairseq.views.cutoff import Cutoff, cutting

UPDATES, SENTENCES = 3, 8
OPTIONS = ["--dropout", "0", "--clip-norm", "0", "--optimizer", "sgd", "--lr", "0.5", "--momentum", "0.9"]
# name -> (model, further options)
RUNS = {
    "legacy tied": ("transformer-tied", ["--ddp-backend", "legacy_ddp"]),
    "legacy untied": ("transformer", ["--ddp-backend", "legacy_ddp"]),
    "pytorch tied": ("transformer-tied", ["--ddp-backend", "pytorch_ddp"]),
    "pytorch untied": ("transformer", ["--ddp-backend", "pytorch_ddp"]),
    "pytorch untied, finding unused parameters": (
        "transformer",
        ["--ddp-backend", "pytorch_ddp", "--find-unused-parameters"],
    ),
    "pytorch tied, finding unused parameters": (
        "transformer-tied",
        ["--ddp-backend", "pytorch_ddp", "--find-unused-parameters"],
    ),
    "legacy separate": ("transformer", ["--ddp-backend", "legacy_ddp", "--rdrop-forward", "separate"]),
    "legacy separate, checkpointed": (
        "transformer",
        ["--ddp-backend", "legacy_ddp", "--rdrop-forward", "separate", "--checkpoint-activations"],
    ),
    "pytorch stacked, checkpointed": ("transformer", ["--ddp-backend", "pytorch_ddp", "--checkpoint-activations"]),
    "pytorch separate": ("transformer", ["--ddp-backend", "pytorch_ddp", "--rdrop-forward", "separate"]),
    "pytorch, two batches per update": ("transformer", ["--ddp-backend", "pytorch_ddp", "--update-freq", "2"]),
    # Without momentum: legacy_ddp gives the layers that nobody ran gradients of 0, which one process leaves out.
    "legacy separate, LayerDrop": (
        "transformer",
        ["--ddp-backend", "legacy_ddp", "--encoder-layers", "3", "--encoder-layerdrop", "0.5", "--momentum", "0"],
    ),
    "legacy language model": ("language model", ["--ddp-backend", "legacy_ddp", *tiny_lm.FEATURES]),
    "pytorch language model": ("language model", ["--ddp-backend", "pytorch_ddp", *tiny_lm.FEATURES]),
    "legacy language model, adaptive": ("language model", tiny_lm.CLUSTERS),
    "legacy language model, adaptive, exact": ("language model", [*tiny_lm.CLUSTERS, "--rdrop-exact-divergence"]),
    "pytorch, prefixes only": ("transformer", ["--ddp-backend", "pytorch_ddp", "--ignore-prefix-size", "20"]),
}


def differ_by_rule() -> None:
    """View 2 of a stack reads other source words: each is replaced by the next one of the dictionary."""
    stack = views.stack_views

    def shifted(net_input: dict[str, Any], sentences: int, count: int) -> dict[str, Any]:
        stacked = stack(net_input, sentences, count)
        source = stacked["src_tokens"]
        source[sentences:] = torch.where(source[sentences:] > 3, 4 + (source[sentences:] - 3) % 16, source[sentences:])
        return stacked

    views.stack_views = shifted


def three_updates(run: Session, rank: int, processes: int, batches: int) -> list[dict[str, float]]:
    """Rank r of n takes the sentences r, r + n, ... of each batch."""
    logged = []
    for number in range(UPDATES):
        samples = []
        for part in range(batches):
            start = SENTENCES * (number * batches + part)
            samples.append(run.batch(*range(start + rank, start + SENTENCES, processes)))
        logged.append(run.update(*samples))
    return logged


def result(
    data: Path, name: str, rank: int = 0, processes: int = 1, device: str = "cpu", backend: str = "gloo"
) -> dict[str, Any]:
    """Parameters and logged quantities of one run."""
    model, options = RUNS[name]
    if model == "language model":
        run = start(tiny_lm.lm_config(data / "text", *OPTIONS, *options, *world(processes, backend)))
    else:
        run = session(data, *RDROP, *OPTIONS, *options, *world(processes, backend), model=model, device=device)
    logged = three_updates(run, rank, processes, 2 if "two batches" in name else 1)
    return {"logged": logged, "model": run.parameters()}


def cut_places() -> torch.Tensor:
    """What cutoff takes away of the source of a batch under a seed that is the same everywhere: bool [B, T, d]."""
    task, sample = make_task(), make_sample()
    model = make_model()
    cutoff = Cutoff.of_task(task, "token", 0.5, views=(0,))
    torch.manual_seed(7)
    seen = []
    with cutting(model, cutoff, [0]):
        handle = model.encoder.embed_tokens.register_forward_hook(lambda *call: seen.append(call[2].eq(0)))
        model(**sample["net_input"])
        handle.remove()
    return seen[0]


def world(processes: int, backend: str) -> list[str]:
    return ["--distributed-world-size", str(processes), "--distributed-backend", backend, "--distributed-no-spawn"]


def main() -> None:
    data, out = Path(sys.argv[1]), Path(sys.argv[2])
    device, backend, *names = sys.argv[3:] or ["cpu", "gloo", *RUNS]
    rank, processes = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    if device == "cuda":
        torch.cuda.set_device(rank if backend == "nccl" else 0)
    # fairseq names a GPU for DDP even on a CPU, which torch refuses, and on one that two processes share
    wrap = distributed_fairseq_model.DistributedDataParallel
    distributed_fairseq_model.DistributedDataParallel = lambda **kwargs: wrap(
        **{**kwargs, "device_ids": None, "output_device": None}
    )
    differ_by_rule()
    cfg = config(data, *RDROP, *OPTIONS, *world(processes, backend), device=device)
    cfg.distributed_training.distributed_rank = rank
    # told, since what fairseq would infer from torchrun's environment counts GPUs
    cfg.distributed_training.distributed_init_method = "env://"
    distributed.distributed_init(cfg)
    for name in names:
        found = result(data, name, rank, processes, device, backend)
        torch.save(found, out / f"{name}.{rank}.pt")
    torch.save(cut_places(), out / f"cut.{rank}.pt")
    torch.distributed.barrier()


if __name__ == "__main__":
    main()
