"""The benchmark itself: everything it prints is measured, and it measures what it says."""

from __future__ import annotations

import json
import sys
import time

import pytest
import torch

from rdrop_fairseq.benchmark import bare_loss, command, peak, run, table, timing
from rdrop_fairseq.errors import UserError
from rdrop_fairseq.loss import rdrop_weights

TINY = ["--rounds", "1", "--threads", "1", "--layers", "1", "--width", "16", "--ffn", "16", "--classes", "64"]
TINY += ["--tokens", "100", "--loss-tokens", "256", "--loss-width", "16", "--loss-vocab", "4096"]


def test_tables_and_files_of_both_parts(tmp_path, capsys):
    assert run.main([*TINY, "--out", str(tmp_path)], "benchmark") == 0
    printed = capsys.readouterr().out
    rows = {name: json.loads((tmp_path / f"{name}.json").read_text()) for name in ("steps", "loss")}
    steps = {row["training step"]: row for row in rows["steps"]}
    assert steps["limit (their sum)"]["wall s"] == pytest.approx(
        sum(steps[name]["wall s"] for name in ("two passes through the model", "three matrix products"))
    )
    assert steps["plain (no R-Drop)"]["of plain"] == 1.0
    # plain: parameters and Adam's two moments, 64 x 16 of them the embedding's
    assert steps["plain (no R-Drop)"]["peak MB"] > 3 * 64 * 16 * 4 / 1e6
    assert 0 < steps["ours, alpha 0"]["peak MB"] < steps["ours"]["peak MB"]
    assert steps["ours, alpha 0"]["words/s"] > 0
    assert steps["plain (no R-Drop)"]["peak MB"] < steps["ours"]["peak MB"] < steps["fairseq's R-Drop"]["peak MB"]
    loss = {row["loss and projection"]: row for row in rows["loss"]}
    assert loss["fairseq's R-Drop"]["of fairseq's"] == 1.0
    assert loss["ours (fused)"]["MB above inputs"] < loss["fairseq's R-Drop"]["MB above inputs"]
    assert all(name in printed for name in (*steps, *loss))


def test_one_table_as_csv(tmp_path):
    run.main(["loss", *TINY, "--csv", str(tmp_path / "t.csv")], "benchmark")
    assert (tmp_path / "t.csv").read_text().startswith("loss and projection,wall s,of fairseq's,")
    with pytest.raises(SystemExit):
        run.main([*TINY, "--json", str(tmp_path / "t.json")], "benchmark")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_device_or_precision_that_is_not_there_is_said_at_once():
    with pytest.raises(UserError, match="sees no GPU: give --device cpu"):
        run.main(["loss", *TINY, "--device", "cuda"], "benchmark")
    with pytest.raises(UserError, match="give --dtype bf16 or fp32"):
        run.main(["loss", *TINY, "--dtype", "fp16"], "benchmark")


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 4e-2)])
def test_contestants_compute_the_same_loss(dtype, tolerance):
    work = bare_loss.contestants(bare_loss.make_problem(rdrop_weights(5.0), 12, 8, 30, dtype=dtype))
    ours = work[bare_loss.OURS]()
    for name in (bare_loss.EAGER, bare_loss.PEER):
        for found, expected in zip(work[name](), ours):
            assert (found - expected).norm() <= tolerance * expected.norm(), name


def test_what_a_gpu_is_measured_with_beside(monkeypatch):
    """All but the compiler itself."""
    monkeypatch.setattr(torch, "compile", lambda **_: lambda function: function)
    problem = bare_loss.make_problem(rdrop_weights(5.0), 12, 8, 30)
    works, plain = bare_loss.further(problem), bare_loss.make_problem(rdrop_weights(0.0), 12, 8, 30)
    logits = problem.logits()
    entropy = torch.nn.functional.cross_entropy(logits, problem.targets(), reduction="sum", ignore_index=bare_loss.PAD)
    right = {
        bare_loss.SWEEP: problem.gradients(lambda: problem.ours("eager"))(),
        bare_loss.COMPILED: problem.gradients(lambda: problem.ours("eager"))(),
        bare_loss.OURS_PLAIN: plain.gradients(lambda: plain.ours("eager"))(),
    }
    if hasattr(torch.nn, "LinearCrossEntropyOptions"):
        right[bare_loss.TORCH] = problem.gradients(lambda: entropy)()
    for name, gradients in right.items():
        torch.testing.assert_close(works[name](), gradients, rtol=1e-4, atol=1e-5)
    monkeypatch.setitem(sys.modules, "liger_kernel.transformers", None)
    with pytest.raises(timing.UnavailableError, match="not installed"):
        works[bare_loss.LIGER]()
    with pytest.raises(timing.UnavailableError, match="fails: ZeroDivisionError"):
        bare_loss._foreign(lambda: 1 / 0)()


def test_rounds_take_turns_and_drop_the_first():
    order = []
    seconds, faults = timing.rounds({"a": lambda: order.append("a"), "b": lambda: order.append("b")}, 2, "test")
    assert order == ["a", "b"] * 3
    assert {name: len(values) for name, values in seconds.items()} == {"a": 2, "b": 2}
    assert faults == {}


def test_a_contestant_that_cannot_run_leaves_the_others_alone():
    def full():
        raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")

    def missing():
        raise timing.UnavailableError("not installed")

    rows = timing.compare("what", {"a": full, "b": time.time, "c": missing}, 2, "wall", {"of a": "a", "of b": "b"})
    assert [row["wall s"] for row in rows if row["what"] != "b"] == ["OOM", "not installed"]
    assert rows[1]["of b"] == 1.0
    assert rows[1]["of a"] is None
    text = table.markdown(rows)
    assert "| a    | OOM " in text
    with pytest.raises(ZeroDivisionError):
        timing.compare("what", {"a": lambda: 1 / 0}, 1)


def test_ratio_is_taken_round_by_round():
    assert timing.ratio([2.0, 20.0, 9.0], [1.0, 10.0, 3.0]) == 2.0


def test_cpu_time_does_not_count_sleeping():
    seconds, _ = timing.rounds({"sleep": lambda: time.sleep(0.05)}, 1, "test", clock="cpu")
    assert seconds["sleep"][0] < 0.04


def test_peak_counts_what_was_freed_again():
    held = torch.ones(1 << 20)  # there before: not counted

    def work():
        torch.ones(2 << 20)  # 8 MiB, gone at once
        return torch.ones(1 << 20) + held

    assert peak.peak_bytes(work) == 8 << 20


def test_names_by_their_beginning():
    parser = command.make_parser("p", "doc", "x")
    known = ["rdrop", "rdrop, 3 passes", "simcut"]
    assert command.choose(parser, ["rdrop", "simcut"], known, "variant") == ["rdrop", "simcut"]
    assert command.choose(parser, ["rdrop, "], known, "variant") == ["rdrop, 3 passes"]
    assert command.choose(parser, [], known, "variant") == known
