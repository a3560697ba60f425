"""Whole updates of tiny models by fairseq's Trainer in every precision, and two processes beside one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

pytest.importorskip("fairseq")

import two_processes
from tiny_fairseq import PLAIN, RDROP, session

from rdrop_fairseq import views

ROOT = Path(__file__).parents[2]
SMOOTHED = ["--label-smoothing", "0.1"]
SYSTEMS = {
    "rdrop": RDROP,
    "shared encoder": [*RDROP, "--rdrop-forward", "shared-encoder"],
    "separate": [*RDROP, "--rdrop-forward", "separate"],
    "three passes": [*RDROP, "--rdrop-passes", "3"],
    "checkpointed": [*RDROP, "--checkpoint-activations"],
    "simcut": ["--criterion", "label_smoothed_cross_entropy_simcut", *SMOOTHED],
    "cutoff": ["--criterion", "label_smoothed_cross_entropy_cutoff", *SMOOTHED],
    "plain": PLAIN,
}
PRECISIONS = {
    "fp32": [],
    "bf16": ["--bf16"],
    "fp16": ["--fp16", "--fp16-init-scale", "4"],
    "fp16, one tensor per parameter": ["--fp16", "--fp16-init-scale", "4", "--fp16-no-flatten-grads"],
    "amp": ["--amp", "--fp16-init-scale", "4"],
}


@pytest.fixture(params=PRECISIONS)
def precision(request, device):
    if device == "cpu" and request.param != "bf16":
        pytest.skip("on a CPU fp32 is tested elsewhere, and fairseq's fp16 and amp need a GPU")
    return PRECISIONS[request.param]


def test_updates_of_every_system(corpus, device, precision):
    chosen = SYSTEMS if device == "cuda" else dict.fromkeys(("rdrop", "shared encoder"))
    for name in chosen:
        words = SYSTEMS[name]
        run = session(corpus, *words, *precision, device=device)
        before = run.parameters()
        count = 4 if device == "cpu" else 12
        logged = run.updates(count)
        assert run.trainer.get_num_updates() == count, name
        assert all(torch.isfinite(torch.tensor(list(each.values()))).all() for each in logged), name
        losses = [each["loss"] for each in logged]
        assert sum(losses[count // 2 :]) < sum(losses[: count // 2]), name
        assert any(not torch.equal(value, before[key]) for key, value in run.parameters().items()), name
        if name in ("rdrop", "separate", "three passes"):
            assert all(each["rdrop_kl"] > 0 for each in logged), name


@pytest.mark.parametrize("model", ["transformer-tied", "bart"])
def test_fused_trains_as_eager_does(corpus, device, precision, model):
    """Same seeds, same dropout: the first update sees the same batch and weights, later ones nearly so."""
    logs = {}
    for impl in ("auto", "eager"):
        run = session(corpus, *RDROP, *precision, "--rdrop-impl", impl, model=model, device=device)
        logs[impl] = run.updates(3)
    tolerance = 1e-4 if not precision else 5e-2
    for mine, other in zip(logs["auto"], logs["eager"]):
        for key in ("loss", "nll_loss", "gnorm", "rdrop_kl"):
            assert mine[key] == pytest.approx(other[key], rel=tolerance, abs=1e-4), key


def test_gradients_accumulate(corpus, device, precision):
    """--update-freq 2: one update on two halves is the update on the whole, but for dropout, which is off."""
    words = [*RDROP, "--dropout", "0", *precision]
    one, two = (session(corpus, *words, device=device) for _ in range(2))
    whole = one.update(one.batch(*range(8)))
    halves = two.update(two.batch(*range(4)), two.batch(*range(4, 8)))
    tolerance = 1e-4 if not precision else 5e-2
    assert halves["gnorm"] == pytest.approx(whole["gnorm"], rel=tolerance)
    assert halves["loss"] == pytest.approx(whole["loss"], rel=tolerance)


def test_two_processes_train_as_one_with_twice_the_batch(corpus, device, tmp_path, monkeypatch):
    """By NCCL where each has a GPU, else both on the same one by gloo."""
    if device == "cpu":
        pytest.skip("tests/end_to_end does this on a CPU")
    names = ["legacy tied", "pytorch untied"]
    backend = "nccl" if torch.cuda.device_count() > 1 else "gloo"
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    paths = os.pathsep.join([str(ROOT), str(ROOT / "tests" / "support")])
    done = subprocess.run(
        [*command, two_processes.__file__, str(corpus), str(tmp_path), device, backend, *names],
        env={**os.environ, "PYTHONPATH": paths}, capture_output=True, text=True, timeout=150, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-5000:]
    monkeypatch.setattr(views, "stack_views", views.stack_views)  # put back what the next line changes
    two_processes.differ_by_rule()
    for name in names:
        one = two_processes.result(corpus, name, device=device)
        ranks = [torch.load(tmp_path / f"{name}.{rank}.pt", map_location="cpu") for rank in (0, 1)]
        for key, value in one["model"].items():
            assert torch.equal(ranks[0]["model"][key], ranks[1]["model"][key]), key
            torch.testing.assert_close(ranks[0]["model"][key], value.cpu(), rtol=1e-3, atol=1e-4)
        for mine, other in zip(ranks[0]["logged"], one["logged"]):
            assert mine["loss"] == pytest.approx(other["loss"], rel=1e-3)
