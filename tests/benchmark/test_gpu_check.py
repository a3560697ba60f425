"""The GPU check: rehearsed by its script on a CPU, and what it does when things go wrong."""

from __future__ import annotations

import json
import re
import signal
import time
from types import SimpleNamespace

import pytest
import torch
from tiny_training import run_script

from rdrop_fairseq.benchmark import gpu_check, gpu_parts, peak, timing
from rdrop_fairseq.errors import UserError


def test_the_script_rehearses_its_parts(tmp_path):
    words = ["--device", "cpu", "--out", tmp_path, "--parts", "machine", "tests", "loss"]
    done = run_script("gpu_check.sh", *words)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    results = json.loads((tmp_path / "gpu_check.json").read_text())
    assert list(results["parts"]) == ["machine", "tests", "loss"]
    assert not any(part["faults"] or part["pending"] for part in results["parts"].values())
    rows = {name: part["rows"] for name, part in results["parts"].items()}
    assert rows["tests"][0]["passed"] > 20
    assert rows["tests"][0]["failed"] == 0
    assert {row["shape"] for row in rows["loss"]} == {"64 x 2, d 16, V 1,000", "32 x 2, d 16, V 100"}
    text = (tmp_path / "gpu_check.md").read_text()
    assert text.startswith("## A rehearsal on tiny inputs\n")
    assert text in done.stdout
    assert re.search(r"^### Loss and projection alone\n\n\| shape +\| precision \|", text, re.MULTILINE)
    assert re.search(r"^Tests: \d+ passed, 0 failed, \d+ skipped\.$", text, re.MULTILINE)


def test_tests_that_do_not_end_leave_what_they_found(tmp_path, monkeypatch):
    tests = tmp_path / "tests" / "gpu"
    tests.mkdir(parents=True)
    (tests / "test_slow.py").write_text(
        "import time\n\n\ndef test_a():\n    pass\n\n\ndef test_b():\n    time.sleep(600)\n", encoding="utf-8"
    )
    monkeypatch.setattr(gpu_check, "ROOT", tmp_path)
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # as in a script's background job
    try:
        found = gpu_check.run_tests(6.0, "cpu", tmp_path)
    finally:
        signal.signal(signal.SIGINT, before)
    assert found["rows"] == [{"passed": 1, "failed": 0, "skipped": 0}]
    assert found["faults"] == ["the tests did not end in 6 s"]


@pytest.mark.parametrize(("capability", "dtypes"), [((7, 0), ("fp16",)), ((9, 0), ("fp16", "bf16"))])
def test_bf16_is_measured_where_it_exists(monkeypatch, capability, dtypes):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: capability)
    assert gpu_parts.Part("cuda", tiny=True).dtypes == dtypes


def test_the_steps_and_the_largest_batches(tmp_path):
    """As the script's process does them."""
    found = {}
    for part in ("steps", "largest"):
        gpu_parts.run(part, "cpu", True, time.time() + 600, tmp_path / f"{part}.json")
        found[part] = json.loads((tmp_path / f"{part}.json").read_text())
        assert found[part]["faults"] == found[part]["pending"] == []
    assert [(row["model"], row["tokens"], row["training step"]) for row in found["steps"]["rows"]] == [
        (model.name, tokens, name)
        for model in gpu_parts.TINY.models
        for tokens in model.tokens
        for name in (*gpu_parts.MEASURED, gpu_parts.TWICE)
    ]
    assert all(row["peak MB"] > 0 and row["wall s"] > 0 for row in found["steps"]["rows"])
    assert all(row["fits"] == 400 for row in found["largest"]["rows"])
    results = {"parts": found, "device": "cpu", "tiny": True, "command": "x", "seconds": 1}
    assert "### Training steps by fairseq's Trainer\n\n| model " in gpu_check.markdown(results)


def arguments(tmp_path, **given):
    return SimpleNamespace(**{"device": "cpu", "tiny": False, "out": tmp_path, **given})


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_so_at_once():
    with pytest.raises(UserError, match="--device cpu rehearses every part on tiny inputs"):
        gpu_check.main([], "benchmark gpu")


def test_too_few_minutes(capsys):
    with pytest.raises(SystemExit):
        gpu_check.main(["--minutes", "0.1", "--device", "cpu"], "benchmark gpu")
    assert "--minutes 0.1 is too short: give at least 0.25" in capsys.readouterr().err


def test_a_part_that_fails_is_said_at_the_end_and_the_others_go_on(tmp_path, monkeypatch, capsys):
    began = []

    def run_part(part, seconds, args):
        began.append((part, seconds))
        faults = ["failed: tests.gpu.test_loss::test_x"] if part == "tests" else []
        return {"rows": [], "pending": ["BART"] if part == "steps" else [], "faults": faults}

    monkeypatch.setattr(gpu_check, "run_part", run_part)
    words = ["--device", "cpu", "--minutes", "2", "--out", str(tmp_path), "--parts", "tests", "steps", "largest"]
    assert gpu_check.main(words, "benchmark gpu") == 1
    assert [part for part, _ in began] == ["tests", "steps", "largest"]
    assert [round(seconds) for _, seconds in began] == pytest.approx([44, 77, 110], abs=2)
    printed = capsys.readouterr().out
    assert "### Failed\n\n- tests: failed: tests.gpu.test_loss::test_x\n" in printed
    assert "### Not reached\n\n- steps: BART\n" in printed


def test_a_part_that_does_not_end_is_ended_and_what_it_wrote_is_kept(tmp_path, monkeypatch):
    def run_for(seconds, words, variables):
        assert words[words.index("--parts") + 1] == "loss"
        assert float(words[words.index("--until") + 1]) < time.time() + seconds
        found = {"rows": [{"shape": "a"}], "pending": ["b"], "faults": []}
        (tmp_path / "loss.json").write_text(json.dumps(found))
        return None

    monkeypatch.setattr(gpu_check, "run_for", run_for)
    assert gpu_check.run_part("loss", 30.0, arguments(tmp_path)) == {
        "rows": [{"shape": "a"}], "pending": ["b"], "faults": []
    }  # fmt: skip
    monkeypatch.setattr(gpu_check, "run_for", lambda *_: -9)
    assert gpu_check.run_part("loss", 30.0, arguments(tmp_path)) == {
        "rows": [], "pending": ["loss"], "faults": ["loss ended with status -9, see above"]
    }  # fmt: skip


def test_a_process_is_ended_with_its_children():
    started = time.monotonic()
    program = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'import time; time.sleep(60)'])"
    assert gpu_check.run_for(1.0, ["-c", program], {}) is None
    assert time.monotonic() - started < 20
    assert gpu_check.run_for(60.0, ["-c", "import os, sys; sys.exit(int(os.environ['N']))"], {"N": "3"}) == 3


def test_failed_tests_are_named(tmp_path, monkeypatch):
    def run_for(seconds, words, variables):
        assert variables == {"RDROP_TEST_DEVICE": "cpu"}
        case = '<testcase classname="tests.gpu.test_loss" name="{}">{}</testcase>'
        cases = [case.format("a", ""), case.format("b", "<failure/>"), case.format("c", "<skipped/>")]
        (tmp_path / "tests.xml").write_text(f"<testsuites><testsuite>{''.join(cases)}</testsuite></testsuites>")
        return 1

    monkeypatch.setattr(gpu_check, "run_for", run_for)
    found = gpu_check.run_tests(30.0, "cpu", tmp_path)
    assert found["rows"] == [{"passed": 1, "failed": 1, "skipped": 1}]
    assert found["faults"] == ["failed: tests.gpu.test_loss::b"]
    monkeypatch.setattr(gpu_check, "run_for", lambda *_: None)
    assert gpu_check.run_tests(30.0, "cpu", tmp_path)["faults"] == ["the tests did not end in 30 s"]


def test_groups_that_fail_miss_a_package_or_come_too_late(tmp_path, monkeypatch, capfd):
    def full():
        yield {"shape": "of full"}
        raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB.")

    def wrong():
        yield {"shape": "of wrong"}
        raise ValueError("no such thing")

    def missing():
        raise ModuleNotFoundError("No module named 'fairseq'")
        yield

    def slow():
        clock.append(clock[-1] + 6.0)
        yield {"shape": "of slow"}

    clock = [100.0]
    monkeypatch.setattr(gpu_parts, "time", SimpleNamespace(time=lambda: clock[-1]))

    groups = {"full": full, "wrong": wrong, "missing": missing, "slow": slow, "late": slow}
    monkeypatch.setattr(gpu_parts.Part, "groups", lambda *_: groups)
    gpu_parts.run("loss", "cpu", True, 110.0, tmp_path / "loss.json")
    found = json.loads((tmp_path / "loss.json").read_text())
    assert found["rows"] == [
        {"shape": "of full"}, {"group": "full", "result": "OOM"}, {"shape": "of wrong"}, {"shape": "of slow"}
    ]  # fmt: skip
    results = {"parts": {"loss": found}, "device": "cpu", "tiny": True, "command": "x", "seconds": 1}
    assert "OOM" in gpu_check.markdown(results)
    assert found["faults"] == ["wrong: ValueError: no such thing"]
    assert found["pending"] == ["missing (No module named 'fairseq')", "late"]
    assert "ValueError" in capfd.readouterr().err


@pytest.mark.parametrize("memory", [10_000, 4096, 4095, 100_000_000])
def test_the_largest_batch(memory):
    tried = []

    def fits(size):
        tried.append(size)
        return size <= memory

    good, bad = gpu_parts.largest_that_fits(fits, 4096, 1 << 20, lambda: False)
    assert len(tried) < 16
    if memory < 4096:
        assert (good, bad) == (0, 4096)
    elif bad is None:
        assert good == 1 << 20
    else:
        assert good <= memory < bad <= 1.05 * good
    assert gpu_parts.largest_that_fits(fits, 64, 1 << 20, lambda: True)[0] == 64


class Device:
    """What torch.cuda's events and allocator do, on a clock and a counter of its own."""

    now, used, peak = 0.0, 5_000_000, 5_000_000

    def work(self, milliseconds, held):
        self.now += milliseconds
        self.peak = max(self.peak, self.used + held)

    def event(self, enable_timing):
        assert enable_timing
        event = SimpleNamespace(at=None, synchronize=lambda: None)
        event.record = lambda: setattr(event, "at", self.now)
        event.elapsed_time = lambda end: end.at - event.at
        return event

    def reset(self):
        self.peak = self.used


@pytest.fixture
def stand_in(monkeypatch):
    device = Device()
    fakes = {
        "Event": device.event, "synchronize": lambda: None, "memory_allocated": lambda: device.used,
        "max_memory_allocated": lambda: device.peak, "reset_peak_memory_stats": device.reset,
    }  # fmt: skip
    for name, fake in fakes.items():
        monkeypatch.setattr(torch.cuda, name, fake)
    return device


def test_device_events(stand_in):
    """A short contestant is repeated until its launches do not count; the table has milliseconds."""
    calls = {"short": 0, "long": 0}

    def run(name, milliseconds):
        def work():
            calls[name] += 1
            stand_in.work(milliseconds, 0)

        return work

    works = {"short": run("short", 1.0), "long": run("long", 50.0)}
    rows = timing.compare("what", works, 3, "cuda", {"of long": "long"})
    assert [row["ms"] for row in rows] == pytest.approx([1.0, 50.0])
    assert rows[0]["of long"] == pytest.approx(0.02)
    assert calls == {"short": 2 + 3 * (1 + 20), "long": 2 + 3}


def test_the_allocators_peak(stand_in):
    stand_in.work(1.0, 9_000_000)  # a peak before the measurement does not count
    assert peak.peak_bytes(lambda: stand_in.work(1.0, 2_000_000), "cuda") == 2_000_000


def test_fairseqs_trainer_does_not_reset_the_peak(monkeypatch):
    """It would after each update that counts, were there not our Rig."""
    rig = gpu_parts.Rig(gpu_parts.TINY.models[0].words, 200)
    assert rig.trainer.cuda_env is None
    assert rig.trainer.optimizer is not None  # built before the trainer looks for a GPU
    monkeypatch.setattr(rig.trainer, "cuda", True)
    monkeypatch.setattr(rig.trainer, "_prepare_sample", lambda sample: (sample, False))
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda: pytest.fail("the peak was reset"))
    rig.step(rig.criterion(gpu_parts.MEASURED[gpu_parts.OURS]), rig.batch(100))
    assert rig.trainer.get_num_updates() == 1
