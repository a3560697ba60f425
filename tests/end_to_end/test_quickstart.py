"""scripts/quickstart.sh on 144 sentences with a model of 16 dimensions: killed twice, finished, run again."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from rdrop_fairseq.__main__ import main
from rdrop_fairseq.scoring import results
from rdrop_fairseq.training import quickstart
from rdrop_fairseq.training.resume import is_whole

ROOT = Path(__file__).resolve().parents[2]
UPDATES = 60
SMALL = ["--max-update", str(UPDATES), "--total-num-update", str(UPDATES), "--warmup-updates", "5"]
SMALL += ["--rdrop-start-updates", "20", "--rdrop-warmup-updates", "10"]
SMALL += [f"--{side}-{what}-dim={16}" for side in ("encoder", "decoder") for what in ("embed", "ffn-embed")]
# 7 and the 4 updates of an epoch: at the end of an epoch fairseq writes checkpoint_last.pt alone
SMALL += ["--max-tokens", "300", "--save-interval-updates", "7", "--log-interval", "1", "--cpu"]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as `prepare demo` makes it."""
    folder = tmp_path_factory.mktemp("a corpus")
    (folder / "po").mkdir()
    places = {"here": "hier", "now": "jetzt", "again": "wieder", "later": "später"}
    verbs = {"Open": "Öffne", "Close": "Schließe", "Print": "Drucke", "Show": "Zeige", "Cut": "Kürze", "Sort": "Ordne"}
    nouns = {"file": "Datei", "page": "Seite", "map": "Karte", "list": "Liste", "key": "Taste", "bar": "Leiste"}
    entries = [
        f'msgid "{verb} the {noun} {place}."\nmsgstr "{verbs[verb]} die {nouns[noun]} {places[place]}."\n'
        for verb in verbs for noun in nouns for place in places
    ]  # fmt: skip
    head = 'msgid ""\nmsgstr "Content-Type: text/plain; charset=UTF-8\\n"\n'
    (folder / "po" / "de.po").write_text("\n".join([head, *entries]), encoding="utf-8")
    command = ["prepare", "demo", "--catalogs", str(folder / "po"), "--out", str(folder / "data"), "--workers", "1"]
    assert main([*command, "--operations", "60"]) == 0
    return folder / "data"


def start(corpus: Path, out: Path) -> subprocess.Popen[str]:
    """The script, in a session of its own."""
    command = [str(ROOT / "scripts" / "quickstart.sh"), "--data", str(corpus), "--out", str(out), "--", *SMALL]
    environment = {**os.environ, "PYTHON": sys.executable, "OMP_NUM_THREADS": "1"}
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, env=environment, start_new_session=True)


def wait_for(condition: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    """Until the condition holds, while the process runs."""
    while not condition():
        if process.poll() is not None:
            pytest.fail("".join(process.communicate()))
        time.sleep(0.01)


def test_killed_twice_and_finished(corpus: Path, tmp_path: Path) -> None:
    out = tmp_path / "the out"
    model, record = out / "rdrop" / "checkpoint_last.pt", out / "rdrop" / "training.json"

    # Ended while it trains: the training ends with it, nothing is lost but the updates since the last checkpoint.
    process = start(corpus, out)
    wait_for(lambda: len(list((out / "rdrop").glob("checkpoint_*_*.pt"))) > 0, process)
    process.terminate()
    assert process.wait() == 143
    assert json.loads(record.read_text())["seconds"] is None
    kept = list((out / "rdrop").glob("checkpoint_*_*.pt"))
    assert kept
    assert all(map(is_whole, kept))
    model.write_bytes(kept[0].read_bytes()[:-1000])  # killed a moment later: during fairseq's copy

    # Killed without warning while it translates.
    process = start(corpus, out)
    wait_for(lambda: len(list((out / "rdrop").glob("test.*.tmp"))) > 0, process)
    os.killpg(process.pid, signal.SIGKILL)
    assert "going on at update" in process.communicate()[1]
    assert json.loads(record.read_text())["seconds"] >= 0
    assert is_whole(model)
    assert not (out / "rdrop" / "test").exists()

    finished = start(corpus, out)
    said, told = finished.communicate()
    assert finished.returncode == 0, told
    assert told.count("done before") == 1  # the training
    assert "BLEU = " in said
    assert "|tok:13a|" in said
    assert said.count("reference  ") == quickstart.SAMPLES
    updates = [line for line in (out / "rdrop" / "train.log").read_text().splitlines() if "num_updates=" in line]
    assert f"num_updates={UPDATES}," in updates[-1]
    assert sum("num_updates=1," in line for line in updates) == 1

    # Once more: everything is there.
    assert main(["quickstart", "--root", str(ROOT), "--data", str(corpus), "--out", str(out), "--", *SMALL]) == 0


def test_other_settings_do_not_go_on(corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "rdrop").mkdir()
    (tmp_path / "rdrop" / "training.json").write_text('{"key": "of another training", "seconds": null}')
    command = ["quickstart", "--root", str(ROOT), "--data", str(corpus), "--out", str(tmp_path)]
    assert main([*command, "--", *SMALL]) == 1
    assert "holds a training with other data or settings: remove it" in capsys.readouterr().err


def test_a_failing_training_is_told(corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["quickstart", "--root", str(ROOT), "--data", str(corpus), "--out", str(tmp_path)]
    assert main([*command, "--", *SMALL, "--rdrop-alhpa", "3"]) == 1
    said = capsys.readouterr().err.splitlines()[-1]
    assert "the training stopped (error: fairseq-train has no option --rdrop-alhpa; did you mean --rdrop-" in said
    assert "train.log" in said


def test_unprepared_data_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["quickstart", "--data", str(tmp_path)]) == 1
    assert "dict.en.txt is missing: give --data a folder that `prepare demo` made" in capsys.readouterr().err


def test_compare_shows_both(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With translations given: the references for R-Drop, those without their last words for the baseline."""
    references = (corpus / "text" / "test.en").read_text().splitlines()

    def scored(training: quickstart.Training) -> Path:
        hypotheses = references if training.name == "rdrop" else [line.rsplit(" ", 1)[0] for line in references]
        texts = results.make_texts(hypotheses, [references], None)
        results.write(tmp_path / training.name, texts, results.Result([texts.score("sacrebleu")], len(references)))
        return tmp_path / training.name

    monkeypatch.setattr(quickstart, "train", lambda training: 60.0)
    monkeypatch.setattr(quickstart, "score", scored)
    assert main(["quickstart", "--root", str(ROOT), "--data", str(corpus), "--out", str(tmp_path), "--compare"]) == 0
    said = capsys.readouterr().out
    assert "baseline: trained for 60 s" in said
    assert "| 100.00 [100.00, 100.00] |" in said
    assert "bs:1000" in said
    reference, rdrop, baseline = (line.split()[1:] for line in said.rstrip().rsplit("\n", 3)[1:])
    assert rdrop == reference
    assert baseline == reference[:-1]
