"""A checkpoint reaches every process of a job, with the types that fairseq puts in it; nothing else is trusted."""

from __future__ import annotations

import io
import os
import pickle
from fractions import Fraction
from pathlib import Path

import pytest
import torch

from rdrop_fairseq import compat


def take_part(rank: int, folder: str) -> None:
    """One of two processes: rank 0 sends a checkpoint as fairseq does when training goes on, rank 1 keeps what came."""
    from fairseq.distributed import utils
    from omegaconf import OmegaConf

    import rdrop_fairseq  # noqa: F401  (applies compat)

    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    state = {"cfg": OmegaConf.create({"model": {"layers": 2}}), "model": {"w": torch.arange(3.0)}, "last": None}
    got = utils.broadcast_object(state if rank == 0 else None, 0, torch.distributed.group.WORLD)
    if rank == 1:
        torch.save([got["cfg"].model.layers, got["model"]["w"], got["last"]], f"{folder}/got")
    torch.distributed.destroy_process_group()


def test_two_processes(tmp_path: Path) -> None:
    context = torch.multiprocessing.get_context("fork")
    processes = [context.Process(target=take_part, args=(rank, str(tmp_path))) for rank in (0, 1)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
    assert [process.exitcode for process in processes] == [0, 0]
    layers, weight, last = torch.load(tmp_path / "got", weights_only=True)
    assert (layers, weight.tolist(), last) == (2, [0, 1, 2], None)


def test_trust_ends_with_the_broadcast(monkeypatch: pytest.MonkeyPatch) -> None:
    buffer = io.BytesIO()
    torch.save(Fraction(1, 3), buffer)

    def load() -> Fraction:
        buffer.seek(0)
        return torch.load(buffer)

    def fails() -> None:
        raise KeyError

    monkeypatch.setenv("TORCH_FORCE_WEIGHTS_ONLY_LOAD", "1")
    assert compat.trusting_own_ranks(load)() == Fraction(1, 3)
    with pytest.raises(KeyError):
        compat.trusting_own_ranks(fails)()
    assert os.environ["TORCH_FORCE_WEIGHTS_ONLY_LOAD"] == "1"
    assert compat.TRUST not in os.environ
    with pytest.raises(pickle.UnpicklingError):
        load()
