"""scripts/quickstart.sh on 144 sentences with a model of 16 dimensions: killed twice, finished, run again."""

from __future__ import annotations

import argparse
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from rdrop_fairseq.__main__ import main
from rdrop_fairseq.corpus import verses
from rdrop_fairseq.scoring import results
from rdrop_fairseq.training import hardware, quickstart, record
from rdrop_fairseq.training.resume import is_whole, seconds_done

pytestmark = pytest.mark.usefixtures("warm")

ROOT = Path(__file__).resolve().parents[2]
UPDATES = 60
TINY = [f"--{side}-{what}-dim={16}" for side in ("encoder", "decoder") for what in ("embed", "ffn-embed")]
# 7 and the 4 updates of an epoch: at the end of an epoch fairseq writes checkpoint_last.pt alone
TINY += ["--max-tokens", "300", "--save-interval-updates", "7", "--log-interval", "1", "--cpu", "--warmup-updates", "5"]
SMALL = [*TINY, "--max-update", str(UPDATES), "--total-num-update", str(UPDATES)]
COMMAND = ["quickstart", "--root", str(ROOT), "--source", "de"]
SMALL += ["--rdrop-start-updates", "20", "--rdrop-warmup-updates", "10"]


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
    command = [str(ROOT / "scripts" / "quickstart.sh"), *COMMAND[3:]]
    command += ["--data", str(corpus), "--out", str(out), "--", *SMALL]
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
    model = out / "rdrop" / "checkpoint_last.pt"

    # Ended while it trains: the training ends with it, nothing is lost but the updates since the last checkpoint.
    process = start(corpus, out)
    wait_for(lambda: len(list((out / "rdrop").glob("checkpoint_*_*.pt"))) > 0, process)
    process.terminate()
    assert process.wait() == 143
    assert record.read(out / "rdrop")["seconds"] > 0
    assert "trained" not in record.read(out / "rdrop")
    kept = list((out / "rdrop").glob("checkpoint_*_*.pt"))
    assert kept
    assert all(map(is_whole, kept))
    model.write_bytes(kept[0].read_bytes()[:-1000])  # killed a moment later: during fairseq's copy

    # Killed without warning while it translates.
    process = start(corpus, out)
    wait_for(lambda: len(list((out / "rdrop").glob("test.*.tmp"))) > 0, process)
    os.killpg(process.pid, signal.SIGKILL)
    assert "resuming at update" in process.communicate()[1]
    assert record.read(out / "rdrop")["trained"]["max_update"] == UPDATES
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
    assert main([*COMMAND, "--data", str(corpus), "--out", str(out), "--", *SMALL]) == 0


def test_other_settings_or_data_do_not_resume(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    training = quickstart.Training("x", "quickstart_rdrop", quickstart.Data(corpus, "de", "en"), tmp_path / "rdrop",
                                   tuple(SMALL), ROOT)  # fmt: skip
    with training.run().claim():
        pass
    command = [*COMMAND, "--data", str(corpus), "--out", str(tmp_path), "--", *SMALL]
    assert main([*command, "--dropout", "0.2"]) == 1
    other = tmp_path / "other data"
    shutil.copytree(corpus, other)
    (other / "bin" / "dict.de.txt").write_text("word 1\n")
    assert main([str(other) if word == str(corpus) else word for word in command]) == 1
    said = capsys.readouterr().err
    assert "settings (dropout 0.3, now 0.2): give another --out, or remove" in said
    assert "settings (other content of dict.de.txt): give another --out, or remove" in said


def test_hours_train_on_from_the_minutes_and_more_hours_from_there(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Ended by its time, found done, and trained on with more of it."""
    args = argparse.Namespace(out=tmp_path, root=ROOT, hours=0.001)
    small = [*TINY, "--validate-interval-updates", "7", "--max-update", "100000"]
    data = quickstart.Data(corpus, "de", "en")
    first, longer = quickstart.trainings("rdrop", data, args, small)
    quickstart.train(replace(first, extra=(*first.extra, "--max-update", "9")))
    seconds = quickstart.train(longer)
    log = tmp_path / "rdrop.hours" / "train.log"
    text = log.read_text()
    assert f"loading pretrained model from {first.checkpoint}" in text
    assert "Stopping training due to cumulative_training_time" in text
    assert longer.checkpoint.name == "checkpoint_best.pt"
    assert is_whole(longer.checkpoint)
    assert seconds > 3.6
    # fairseq counts the minutes of the model that it starts from as well
    assert seconds_done(longer.save_dir) - seconds_done(first.save_dir) > 3.6 - 0.1
    assert "rdrop.hours: update 1/100000, nll_loss" in capsys.readouterr().err

    assert quickstart.train(longer) == seconds
    assert log.read_text() == text
    assert "done before" in capsys.readouterr().err

    more = (seconds_done(longer.save_dir) - seconds_done(first.save_dir)) / 3600 + 0.001
    assert quickstart.train(replace(longer, hours=more)) > seconds
    assert "resuming at update" in capsys.readouterr().err
    updates = [int(number) for number in re.findall(r"train_inner.*num_updates=(\d+)", log.read_text())]
    assert updates == list(range(1, len(updates) + 1))  # as if it had never stopped
    [_, plain] = quickstart.trainings("baseline", data, args, small)
    (tmp_path / "baseline").mkdir()
    shutil.copy(first.checkpoint, tmp_path / "baseline")
    assert "--stop-time-hours" in plain.run().command


def test_on_a_machine_with_eight_gpus_one_trains(corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Eight would make the batch eight times as large as the schedule is for."""
    monkeypatch.setattr(hardware, "detect", lambda cpu=False: hardware.Hardware(8, (9, 0)))
    data, small = quickstart.Data(corpus, "de", "en"), tuple(word for word in SMALL if word != "--cpu")
    command = quickstart.Training("rdrop", "quickstart_rdrop", data, tmp_path, small, ROOT).run().command
    assert command[command.index("--distributed-world-size") + 1] == "1"
    assert "--fp16" in command
    assert not any("torchrun" in word for word in command)


def test_a_failing_training_is_told(corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = [*COMMAND, "--data", str(corpus), "--out", str(tmp_path)]
    assert main([*command, "--", *SMALL, "--rdrop-alhpa", "3"]) == 1
    assert "error: fairseq-train has no option --rdrop-alhpa; did you mean --rdrop-" in capsys.readouterr().err
    assert main([*command, "--", *SMALL, "--encoder-attention-heads", "5"]) == 1
    said = capsys.readouterr().err.splitlines()[-1]
    assert "rdrop: stopped with status 1 (" in said
    assert "embed_dim must be divisible by num_heads" in said
    assert "train.log" in said


def test_unprepared_data_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["quickstart", "--data", str(tmp_path)]) == 1
    assert "dict.en.txt is missing: give --data a folder that `prepare verses` or" in capsys.readouterr().err


@pytest.mark.parametrize(("source", "name"), [("es", "verses-small"), ("de", "verses-small.de-en")])
def test_data_are_made_where_none_are_named(source, name, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[list[str]] = []
    monkeypatch.setattr(verses, "main", lambda words, _: made.append(words))
    folder = quickstart.prepare(argparse.Namespace(root=tmp_path, source=source, target="en"))
    assert folder == tmp_path / "work" / name
    assert made == [["--source", source, "--target", "en", "--pairs", "1500", "--out", str(folder)]]


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
    assert main([*COMMAND, "--data", str(corpus), "--out", str(tmp_path), "--compare"]) == 0
    said = capsys.readouterr().out
    assert "baseline: trained for 60 s" in said
    assert "| 100.00 [100.00, 100.00] |" in said
    assert "bs:1000" in said
    reference, rdrop, baseline = (line.split()[1:] for line in said.rstrip().rsplit("\n", 3)[1:])
    assert rdrop == reference
    assert baseline == reference[:-1]
