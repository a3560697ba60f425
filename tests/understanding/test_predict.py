"""Reading sentences, writing answers and submissions; checkpoints and lines that do not fit."""

from __future__ import annotations

import io
import shutil
import signal
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import tiny_fairseq
import torch
from tiny_roberta import PLAIN, config, write_sentences

from rdrop_fairseq.corpus.glue_tasks import TASKS
from rdrop_fairseq.errors import UserError
from rdrop_fairseq.understanding import glue, predict
from rdrop_fairseq.understanding.predictor import Predictor

pytestmark = pytest.mark.usefixtures("warm")


@pytest.mark.parametrize(
    ("text", "inputs", "message"),
    [
        (b"one\n\nthree\n", 1, "line 2: an empty sentence; this checkpoint reads one sentence a line"),
        (b"one\ttwo\nthree\n", 2, "line 2: 1 fields; this checkpoint reads two sentences with a tab between them"),
        (b"one\t \n", 2, "line 1: an empty sentence"),
    ],
)
def test_lines_that_do_not_fit(tmp_path: Path, text: bytes, inputs: int, message: str) -> None:
    (tmp_path / "file").write_bytes(text)
    with pytest.raises(UserError, match=message):
        predict.read(tmp_path / "file", inputs)


def test_lines_from_stdin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(b"a b\tc\r\nd\te")))
    assert predict.read(None, 2) == [["a b", "c"], ["d", "e"]]


def test_answers_and_submissions() -> None:
    outputs = torch.tensor([[0.0, 1.0], [2.0, 0.0]])
    assert list(predict.answers(outputs, ("1", "0"))) == ["0\t0.731059", "1\t0.880797"]
    assert list(predict.answers(torch.tensor([[0.25], [1.5]]), ())) == ["0.25", "1.5"]
    assert predict.submission(outputs, TASKS["cola"], ("1", "0")) == "index\tprediction\n0\t0\n1\t1\n"
    scores = torch.tensor([[0.5], [1.5], [-1.0]])
    assert predict.submission(scores, TASKS["stsb"], ()) == "index\tprediction\n0\t2.500\n1\t5.000\n2\t0.000\n"


def test_a_checkpoint_of_another_task(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    torch.save({"model": {}, "cfg": {"task": {"_name": "translation"}}}, path)
    with pytest.raises(UserError, match="was trained on the task translation, not on sentence_prediction_rdrop"):
        Predictor(path, tmp_path)
    torch.save({"model": {}, "cfg": {"task": {"_name": "sentence_prediction_rdrop"}}}, path)
    with pytest.raises(UserError, match=r"has no encoder\.json and no vocab\.bpe"):
        Predictor(path, tmp_path)
    stand_in = SimpleNamespace(classes=("0", "1"))
    with pytest.raises(UserError, match="this checkpoint gives 0, 1, RTE wants entailment, not_entailment"):
        predict.write_submission(stand_in, TASKS["rte"], tmp_path, 8)  # type: ignore[arg-type]


def with_bpe(data: Path, gpt2_files: Path) -> Path:
    for file in ("encoder.json", "vocab.bpe"):
        shutil.copy(gpt2_files / file, data)
    return data


def test_a_checkpoint_of_fairseqs_own_task(tmp_path: Path, gpt2_files: Path) -> None:
    """Its labels are the classes of label/dict.txt, in that order; with --regression-target they are numbers."""
    for name, classes in (("classes", ("yes", "no")), ("numbers", ())):
        data = with_bpe(write_sentences(tmp_path / name, classes), gpt2_files)
        words = [*PLAIN, "--task", "sentence_prediction", "--save-dir", tmp_path / f"{name} run", "--max-update", "1"]
        words += [] if classes else ["--regression-target", "--num-classes", "1"]
        tiny_fairseq.run(config(data, *words))
        assert Predictor(tmp_path / f"{name} run" / "checkpoint_last.pt", data).classes == classes
    more = with_bpe(write_sentences(tmp_path / "more", ("a", "b", "c")), gpt2_files)
    with pytest.raises(UserError, match=r"more has 3 classes, .*checkpoint_last\.pt was trained on 2: give the data"):
        Predictor(tmp_path / "classes run" / "checkpoint_last.pt", more)


def test_another_tasks_data_does_not_swap_the_classes(tmp_path: Path, gpt2_files: Path) -> None:
    """As QQP's and MRPC's do, whose more frequent class comes first."""
    data = with_bpe(write_sentences(tmp_path / "trained", ("1", "0")), gpt2_files)
    other = with_bpe(write_sentences(tmp_path / "other", ("0", "1")), gpt2_files)
    tiny_fairseq.run(config(data, *PLAIN, "--save-dir", tmp_path / "run", "--max-update", "1"))
    trained = tmp_path / "run" / "checkpoint_last.pt"
    assert Predictor(trained, data).classes == ("1", "0")
    with pytest.raises(UserError, match=r"has the classes 0, 1 in this order, .* was trained on 1, 0: give the data"):
        Predictor(trained, other)


def test_the_table_has_median_and_best(tmp_path: Path) -> None:
    study = glue.Study(Path(), tmp_path, list(TASKS), [1, 2, 3], [])
    for task in TASKS:
        for system, scores in (("baseline", (80.0, 90.0, 81.0)), ("rdrop", (82.0, 84.0))):
            for seed, best in enumerate(scores, 1):
                folder = study.folder(task, system, seed)
                folder.mkdir()
                (folder / "result.json").write_text(f'{{"best": {best}}}')
    lines = glue.table(study).splitlines()
    assert lines[2] == "| MNLI | accuracy | 3 / 2 | 81.0 (90.0) | 83.0 (84.0) | +2.0 | 90.2 | 90.9 |"
    assert lines[-1] == "| mean | | | 81.00 | 83.00 | +2.00 | 88.93 | 89.73 |"


def test_a_training_ends_with_the_program_that_started_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    training = tmp_path / "python"
    training.write_text(f"#!/bin/sh\necho $$ >{tmp_path}/process\nsleep 1\nkill -s TERM $PPID\nexec sleep 60\n")
    training.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(training))
    before = signal.getsignal(signal.SIGTERM)
    try:
        with pytest.raises(SystemExit, match="143"):
            glue.main(["rte", "--out", str(tmp_path)], prog="glue")
    finally:
        signal.signal(signal.SIGTERM, before)
    assert not Path("/proc", (tmp_path / "process").read_text().strip()).exists()


def study_of(out: Path, updates: int, limits: dict[str, float]) -> glue.Study:
    """A study whose trainings leave what fairseq-train does, the fourth update falling on --save-interval-updates."""
    study = glue.Study(Path(), out, ["mnli"], [1], [])
    groups = {"checkpoint": {"best_checkpoint_metric": "accuracy", "patience": limits.get("patience", -1)}}
    cfg = {**groups, "optimization": {"max_update": 10, "max_epoch": 0, "stop_time_hours": 0.0, **limits}}
    extra = {"best": 80.0, "train_iterator": {"epoch": 3}}
    state = {"model": {}, "cfg": cfg, "extra_state": extra, "optimizer_history": [{"num_updates": updates}]}

    def launch(task: str, system: str, seed: int, *words: str) -> None:
        folder = study.folder(task, system, seed)
        folder.mkdir(exist_ok=True)
        for name in () if words else ("best", "last", "2_4"):
            torch.save(state, folder / f"checkpoint_{name}.pt")

    study._launch = launch  # type: ignore[method-assign]
    return study


@pytest.mark.parametrize("limits", [{}, {"max_epoch": 3}])
def test_a_training_that_was_asked_to_stop_is_not_finished(tmp_path: Path, limits: dict[str, float]) -> None:
    """fairseq-train ends with status 0 there, too."""
    study = study_of(tmp_path, 4, limits)
    with pytest.raises(UserError, match=r"_mnli_roberta_large_baseline\.seed1 was stopped at update 4 of 10"):
        study.train()
    assert study.result("mnli", "baseline", 1) is None
    assert (study.folder("mnli", "baseline", 1) / "checkpoint_last.pt").is_file()


@pytest.mark.parametrize(
    ("updates", "limits"), [(10, {}), (4, {"max_epoch": 2}), (4, {"patience": 1}), (4, {"stop_time_hours": 1})]
)
def test_a_finished_training_keeps_one_checkpoint(tmp_path: Path, updates: int, limits: dict[str, float]) -> None:
    study = study_of(tmp_path, updates, limits)
    study.train()
    assert study.scores("mnli", "rdrop") == {1: 80.0}
    left = sorted(path.name for path in study.folder("mnli", "baseline", 1).iterdir())
    assert left == ["checkpoint_best.pt", "result.json"]


def test_a_failed_training_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study = glue.Study(Path(), tmp_path, ["rte"], [1], [])
    monkeypatch.setattr(sys, "executable", "false")
    with pytest.raises(UserError, match=r"_rte_roberta_large_rdrop, seed 1, ended with status 1 .*run the same"):
        study.train()
    with pytest.raises(UserError, match="wsc is not a task of GLUE"):
        glue.main(["wsc"], prog="glue")
