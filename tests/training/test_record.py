"""A second training with other settings, or at the same time, is kept out of a directory; the same one resumes."""

from __future__ import annotations

import errno
import json
import re
import shutil
import socket
import subprocess
import time
from pathlib import Path

import pytest
import torch
from tiny_training import becoming

from rdrop_fairseq.errors import UserError
from rdrop_fairseq.training import record, resume
from rdrop_fairseq.training.run import Run


@pytest.fixture
def start(plan, tmp_path: Path):
    """start(extra, gpus): the job for IWSLT14 in `tmp_path`, checked as before a training."""

    def make(*extra: str, gpus: int = 1, words: str = "", **more: Path) -> Run:
        return plan(f"--save-dir {tmp_path} {words}", gpus, extra=extra, **more)

    return make


def test_what_may_change_and_what_may_not(start, tmp_path: Path) -> None:
    record.update(tmp_path, start().settings())
    start(gpus=4)
    start("--max-tokens", "1024")  # the same effective batch
    start("--num-workers", "0", "--max-update", "5", "--patience", "3", "--log-interval", "1")
    start("--save-interval-updates", "7", "--checkpoint-activations", "--adam-betas", "(0.9,0.98)")
    changes = (("dropout", "0.1", "0.3"), ("rdrop-alpha", "1", "5.0"), ("lr", "1e-3", r"\[0.0005\]"))
    for option, value, before in changes:
        name = option.replace("-", "_")
        with pytest.raises(UserError, match=rf"holds a training with other settings \({name} {before}, now .*\): give"):
            start(f"--{option}", value)
    with pytest.raises(UserError, match="batch 4096 tokens, now 8192 tokens"):
        start(words="--update-freq 2")
    (tmp_path / record.NAME).unlink()
    start("--dropout", "0.1")  # the way out that is named; directories of older versions have no record either


def test_another_precision_is_refused(start, tmp_path: Path) -> None:
    """fairseq's optimizer of one precision does not take the state of another one's. "auto" follows from the device, so
    the same command may ask for another precision on another machine."""
    record.update(tmp_path, start().settings())
    for job, said in (
        (lambda: start(gpus=0), "fp16 True, now False"),
        (lambda: start(words="--precision fp32"), "fp16 True, now False"),
        (lambda: start("--bf16"), "bf16 False, now True; fp16 True, now False"),
        (lambda: start("--amp"), "amp False, now True; fp16 True, now False"),
    ):
        with pytest.raises(UserError, match=rf"holds a training with other settings \({said}\)"):
            job()
    start("--fp16", gpus=4)  # as found out before


def test_options_of_another_version_are_no_difference(start, tmp_path: Path) -> None:
    known = {**start().settings(), "gone": 1}
    del known["dropout"]
    (tmp_path / record.NAME).write_text(json.dumps(known))
    start()


@pytest.mark.parametrize(
    ("reached", "words", "limit", "more"),
    [
        ({"updates": 16}, "--max-update 16", "16 updates, --max-update 16", "--max-update 17"),
        ({"epoch": 4}, "--max-epoch 3", "3 epochs, --max-epoch 3", "--max-epoch 4"),
        ({"hours": 2.5}, "--stop-time-hours 2", "2.50 hours, --stop-time-hours 2", "--stop-time-hours 3"),
        (
            {"waited": 5, "updates": 300},
            "--patience 5",
            "validations without a better one: 5, --patience 5",
            "--patience 6",
        ),
        (
            {"waited": 1, "updates": 300},
            "--patience 1 --patience-share 0.33",  # the best one was at update 200
            "validations without a better one: 1, --patience 1",
            "--patience 1 --patience-share 0.34",
        ),
        ({"lr": 1e-9}, "--stop-min-lr 1e-9", "learning rate 1e-09, --stop-min-lr 1e-09", "--stop-min-lr 1e-10"),
    ],
)
def test_a_finished_training_is_not_trained_on(
    start, tmp_path: Path, reached: dict[str, float], words: str, limit: str, more: str
) -> None:
    """From what fairseq and our tasks keep in a checkpoint; without such a limit there is always something to train."""
    given = words.split()
    assert start(*given).finished() == ""
    extra = {
        "train_iterator": {"epoch": reached.get("epoch", 1)},
        "previous_training_time": 3600 * reached.get("hours", 0.0),
        "TranslationRDropTask": {"patience_runs": reached.get("waited", 0), "patience_best_update": 200},
    }
    state = {
        "model": {"weight": torch.zeros(1)},
        "optimizer_history": [{"num_updates": reached.get("updates", 1)}],
        "last_optimizer_state": {"param_groups": [{"lr": reached.get("lr", 1e-3)}]},
        "extra_state": extra,
    }
    torch.save(state, tmp_path / "checkpoint_last.pt")
    assert start(*given).finished() == limit
    assert start(*more.split()).finished() == ""
    assert start(*given, "--reset-optimizer").finished() == ""
    assert start("--max-update", "100000", "--patience=-1").finished() == ""


def test_data_of_other_content_are_refused(tiny_data: Path, start, tmp_path: Path) -> None:
    """Known by sizes, dictionaries and both ends of each file, wherever they lie."""
    record.update(tmp_path, start().settings())
    data = shutil.copytree(tiny_data, tmp_path / "moved")
    start(data=data)
    (data / "test.de-en.de.bin").write_bytes(b"another test set")
    (data / "preprocess.log").write_text("made again")
    start(data=data)
    path = data / "train.de-en.en.bin"
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    (data / "dict.de.txt").write_text("other 1\n")
    refused = r"settings \(other content of dict\.de\.txt, train\.de-en\.en\.bin\): give another --save-dir, or remove"
    with pytest.raises(UserError, match=refused):
        start(data=data)


def test_each_of_several_folders_counts(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "train.de-en.de.bin").write_text(name)
    found = record.content(f"{tmp_path}/a:{tmp_path}/b")
    assert list(found) == ["0:train.de-en.de.bin", "1:train.de-en.de.bin"]
    assert len(set(found.values())) == 2


def test_of_a_large_file_the_ends_are_read(tmp_path: Path) -> None:
    path = tmp_path / "train.de-en.de.bin"
    with path.open("wb") as file:
        file.truncate(40 << 30)  # sparse
    began = time.monotonic()
    before = record.content(str(tmp_path))
    assert time.monotonic() - began < 1
    with path.open("r+b") as file:
        file.seek((40 << 30) - 5)
        file.write(b"x")
    assert record.content(str(tmp_path)) != before


def test_two_launches_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd) -> None:
    """The first becomes a program that waits; a process that it leaves behind holds the lock as well."""
    monkeypatch.setattr(resume, "PATIENCE", 0.3)
    pipe, command = subprocess.PIPE, becoming(tmp_path, "echo ready; read line; sleep 1 & exit 0")
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as first:
        assert first.stdin is not None
        assert first.stdout is not None
        while first.stdout.readline() != "ready\n":
            assert first.poll() is None
        running = rf"still running there \(process {first.pid} on {re.escape(socket.gethostname())}\)"
        with pytest.raises(UserError, match=running), resume.only_one(tmp_path / "lock"):
            pass
        first.stdin.write("\n")
        first.stdin.flush()
        first.wait()
        with pytest.raises(UserError, match="still running"), resume.only_one(tmp_path / "lock"):
            pass
        first.stdout.read()  # until what was left behind has ended
    monkeypatch.setattr(resume, "PATIENCE", 10.0)
    with resume.only_one(tmp_path / "lock"):
        pass


def test_the_machines_of_one_training_share_the_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resume, "PATIENCE", 0.3)
    path = tmp_path / "lock"
    with resume.only_one(path, "first:29500"), resume.only_one(path, "first:29500"):
        for other in ("", "first:29501"):
            with pytest.raises(UserError, match=r"still running there \(first:29500\)"), resume.only_one(path, other):
                pass
    with resume.only_one(path), pytest.raises(UserError, match="still running"), resume.only_one(path, "first:29500"):
        pass
    with resume.only_one(path, "first:29501"):
        pass


def test_the_lock_is_read_as_nfs_shows_it(tmp_path: Path) -> None:
    """What a machine has cached of an open file stays old for seconds to minutes; only opening it asks the server."""
    path = tmp_path / "lock"
    path.write_text("first:29500\n", encoding="utf-8")
    with path.open(encoding="utf-8") as lock:
        # an open file that another machine's writing does not reach
        path.rename(tmp_path / "cached")
        path.write_text("first:29501\n", encoding="utf-8")
        assert resume._content(lock) == "first:29501"


def test_a_file_system_without_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(resume.fcntl, "flock", refuse)
    with resume.only_one(tmp_path / "lock"):
        pass
    assert "start no second training there" in capsys.readouterr().err
