"""The ablation driver, from a data directory to its table and pictures, killed on the way."""

from __future__ import annotations

import csv
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from rdrop_fairseq.__main__ import main
from rdrop_fairseq.ablation.trial import Trial, fingerprint, updates_done
from rdrop_fairseq.errors import UserError

ROOT = Path(__file__).parents[2]
BASE = [
    *("--arch", "transformer", "--share-all-embeddings", "--optimizer", "adam", "--lr", "5e-3", "--cpu"),
    *("--max-tokens", "300", "--max-update", "6", "--validate-interval-updates", "2", "--save-interval-updates", "2"),
    *("--keep-interval-updates", "1", "--no-epoch-checkpoints", "--log-interval", "1", "--label-smoothing", "0.1"),
    *("--required-batch-size-multiple", "1"),
]
for side in ("encoder", "decoder"):
    BASE += [f"--{side}-layers", "1", f"--{side}-attention-heads", "2"]
    BASE += [f"--{side}-embed-dim", "16", f"--{side}-ffn-embed-dim", "16"]


def command(data: Path, out: Path, *words: str) -> list[str]:
    return ["ablate", str(data), "--out", str(out), *words, "--generate", "--beam 1 --max-len-b 8", "--", *BASE]


@pytest.fixture(scope="module")
def finished(tiny_data, tmp_path_factory):
    """The baseline and one system, killed once in the second training."""
    out = tmp_path_factory.mktemp("an ablation")
    words = command(tiny_data, out, "--vary", "cutoff", "token")
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen([sys.executable, "-m", "rdrop_fairseq", *words], env=environment, stderr=subprocess.PIPE)
    second = out / "runs" / "cutoff=token.seed1" / "train.log"
    until = time.monotonic() + 200
    while not updates_done(second) and process.poll() is None and time.monotonic() < until:
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode == 143
    first = out / "runs" / "baseline.seed1" / "trial.json"
    written = first.stat().st_mtime_ns
    assert main(words) == 0
    assert first.stat().st_mtime_ns == written  # not trained again
    return out, words


def test_the_table(finished):
    out, _ = finished
    with (out / "table.csv").open() as file:
        lines = list(csv.reader(file))
    assert lines[0] == ["tokenized BLEU (multi-bleu.perl)", "mean", "s.d.", "difference", "95 % interval",
                        "p (bootstrap)", "brevity", "updates", "CPU minutes"]  # fmt: skip
    assert [line[0] for line in lines[1:]] == ["baseline", "cutoff=token"]
    assert all(line[7] == "6" for line in lines[1:])
    assert lines[1][2:6] == ["", "", "", ""]
    assert float(lines[2][3]) == pytest.approx(float(lines[2][1]) - float(lines[1][1]), abs=0.011)
    assert 0 < float(lines[2][5]) <= 1
    shown = (out / "table.md").read_text()
    assert f"| cutoff=token | {lines[2][1]} |" in shown
    assert "1 seed;" in shown


def test_scores_are_those_of_the_runs(finished):
    out, _ = finished
    with (out / "table.csv").open() as file:
        lines = list(csv.reader(file))
    for line, system in zip(lines[1:], ("baseline", "cutoff=token")):
        content = json.loads((out / "runs" / f"{system}.seed1" / "test" / "scores.json").read_text())
        assert content["made"]["checkpoints"][0].endswith("checkpoint_best.pt")
        assert float(line[1]) == pytest.approx(content["scores"][0]["score"], abs=0.006)
        assert f"BP={line[6]}" in content["scores"][0]["line"]


def test_curves_and_pictures(finished):
    out, _ = finished
    with (out / "curves.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["metric"] == "nll_loss"]
    places = {(row["system"], row["seed"], row["updates"]) for row in rows}
    assert places == {(system, "1", updates) for system in ("baseline", "cutoff=token") for updates in "246"}
    assert {path.parent.name for path in out.rglob("*.cpu.csv")} == {f"{name}.seed1" for name, _, _ in places}
    assert not list(out.rglob("score.cpu.csv"))  # for training alone there is a curve
    assert len(rows) == len(places)
    for name in ("axis-cutoff", "curves-updates", "curves-seconds"):
        assert (out / f"{name}.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"


def test_what_was_trained_has_the_options(finished):
    out, _ = finished
    log = (out / "runs" / "cutoff=token.seed1" / "train.log").read_text()
    assert "RDropCriterion" in log
    assert '"rdrop_kl"' in log
    assert '"rdrop_kl"' not in (out / "runs" / "baseline.seed1" / "train.log").read_text()


def test_again_with_other_options_is_refused(finished, capsys):
    _, words = finished
    assert main([*words, "--dropout", "0.4"]) == 1
    assert "holds a training with other data or options" in capsys.readouterr().err


def test_data_are_known_wherever_they_lie(tmp_path):
    for place, word in (("here", "a"), ("there", "a"), ("changed", "b")):
        (tmp_path / place).mkdir()
        (tmp_path / place / "dict.de.txt").write_text(f"{word} 1\n", encoding="utf-8")
        (tmp_path / place / "train.de-en.de.bin").write_bytes(b"1234")
        (tmp_path / place / "preprocess.log").write_text(place, encoding="utf-8")
    here, there, changed = (fingerprint(tmp_path / place) for place in ("here", "there", "changed"))
    assert here == there != changed
    (tmp_path / "there/train.de-en.de.bin").write_bytes(b"12345")
    assert fingerprint(tmp_path / "there") != here


def test_report_alone(finished, capsys):
    out, words = finished
    (out / "table.md").unlink()
    cut = words.index("--")
    assert main([*words[:cut], "--report", "--vary", "passes", "3", *words[cut:]]) == 0
    assert "passes=3" not in (out / "table.md").read_text()  # not trained, so not told
    assert "cutoff=token" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--vary", "alpha"], "--vary needs a name and at least one value"),
        (["--vary", "alhpa", "3"], "system alhpa=3: unrecognized arguments: --alhpa=3"),
        (["--vary", "cutoff", "words"], "system cutoff=words: argument --rdrop-cutoff: invalid choice"),
        (["--report"], "nothing in .* is finished"),
    ],
)
def test_what_would_fail_later_is_refused_now(words, message, tiny_data, tmp_path, capsys):
    assert main(command(tiny_data, tmp_path, *words)) == 1
    assert re.search(message, capsys.readouterr().err)
    assert not (tmp_path / "runs").exists()


def test_reserved_options(tiny_data, tmp_path, capsys):
    assert main([*command(tiny_data, tmp_path), "--seed", "3"]) == 1
    assert "--seed is set by this command" in capsys.readouterr().err


def test_a_training_that_fails_says_why(tiny_data, tmp_path, capsys):
    assert main([*command(tiny_data, tmp_path), "--encoder-attention-heads", "3"]) == 1
    said = capsys.readouterr().err.splitlines()[-1]
    assert "embed_dim must be divisible by num_heads" in said
    assert "train.log" in said


def test_a_trial_without_a_checkpoint(tmp_path):
    with pytest.raises(UserError, match="leave --no-save away"):
        Trial("x", 1, tmp_path, tmp_path, ()).score_command()
