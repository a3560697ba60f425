"""The ablation driver, from a data directory to its table and pictures, killed on the way."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from argparse import Namespace
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from fairseq import checkpoint_utils

from rdrop_fairseq.__main__ import main
from rdrop_fairseq.ablation import ablate
from rdrop_fairseq.ablation.curves import read_curve
from rdrop_fairseq.ablation.further import Further, measure, measure_ensemble
from rdrop_fairseq.ablation.grid import BASELINE
from rdrop_fairseq.ablation.rows import make_ensemble
from rdrop_fairseq.ablation.trial import Trial, updates_done
from rdrop_fairseq.errors import UserError
from rdrop_fairseq.scoring import perplexity
from rdrop_fairseq.training import options, record

pytestmark = pytest.mark.usefixtures("warm")

ROOT = Path(__file__).parents[2]
BASE = [
    *("--arch", "transformer", "--share-all-embeddings", "--optimizer", "adam", "--lr", "5e-3", "--cpu"),
    *("--max-tokens", "300", "--max-update", "6", "--validate-interval-updates", "2", "--save-interval-updates", "2"),
    *("--keep-interval-updates", "2", "--no-epoch-checkpoints", "--log-interval", "1", "--label-smoothing", "0.1"),
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
    first = out / "runs" / "baseline.seed1" / record.NAME
    written = first.stat().st_mtime_ns
    assert main(words) == 0
    assert first.stat().st_mtime_ns == written  # not trained again
    return out, words


def systems(out):
    return {row["system"]: row for row in json.loads((out / "report.json").read_text())["systems"]}


def test_the_table(finished):
    out, _ = finished
    found = systems(out)
    assert list(found) == ["baseline", "cutoff=token"]
    assert all(row["updates"] == 6 and row["seeds"] == [1] for row in found.values())
    against = found["cutoff=token"]["scores"]["against_baseline"]
    means = [row["scores"]["mean"] for row in found.values()]
    assert against["difference"] == pytest.approx(means[1] - means[0])
    assert 0 < against["p_sentences"] <= 1
    shown = (out / "table.md").read_text()
    assert f"| cutoff=token | 1 | {means[1]:.2f} | {against['difference']:+.2f} |" in shown
    assert "s.d." not in shown  # one seed has none, and no p over seeds
    assert "p (sentences and seeds)" not in shown


def test_scores_are_those_of_the_runs(finished):
    out, _ = finished
    for name, row in systems(out).items():
        content = json.loads((out / "runs" / f"{name}.seed1" / "test" / "scores.json").read_text())
        assert content["made"]["checkpoints"][0].endswith("checkpoint_best.pt")
        assert row["scores"]["seeds"] == [content["scores"][0]["score"]]
        assert f"BP={row['brevity']:.3f}" in content["scores"][0]["line"]


def test_nll_is_that_of_fairseqs_own_validation(finished):
    """Of the best checkpoint, by the log; three decimals stand there."""
    out, _ = finished
    for name, row in systems(out).items():
        curve = read_curve(out / "runs" / f"{name}.seed1" / "train.log")
        best = min(curve, key=lambda point: point.metrics["loss"])
        assert row["valid_nll"]["mean"] == pytest.approx(best.metrics["nll_loss"], abs=6e-4)
        assert row["nll"]["mean"] == pytest.approx(row["valid_nll"]["mean"], abs=1.0)
    assert systems(out)["cutoff=token"]["nll"]["against_baseline"]["p_sentences"] <= 1


def nll_by_hand(data, paths):
    """Bits per token of the test set under the mean of the models' probabilities, sentence by sentence."""
    models, _, task = checkpoint_utils.load_model_ensemble_and_task([str(path) for path in paths])
    task.load_dataset("test")
    total, tokens = 0.0, 0
    for number in range(len(task.dataset("test"))):
        batch = task.dataset("test").collater([task.dataset("test")[number]])
        with torch.no_grad():
            each = [model.eval().get_normalized_probs(model(**batch["net_input"]), log_probs=False).double()
                    for model in models]  # fmt: skip
        found = torch.stack(each).mean(0)[0].gather(1, batch["target"].T)
        total, tokens = total - float(found.log2().sum()), tokens + len(found)
    return total / tokens


def test_average_and_ensemble(finished, tmp_path, monkeypatch):
    """Two trainings taken for two seeds. What was measured is not measured again."""
    out, words = finished
    data = Path(words[1])
    scoring = ("--", "--beam", "1", "--max-len-b", "8")
    trials = [Trial("baseline", n, data, out / "runs" / f"{name}.seed1", (), Namespace(), scoring)
              for n, name in enumerate(("baseline", "cutoff=token"))]  # fmt: skip
    further = Further("test", average=2, ensemble=True)
    assert "no average (of 3 update checkpoints 2 are there)" in Further("test", average=3).no_average(trials[0])
    monkeypatch.setattr(Trial, "trained", True)
    commands = []

    def here(command, *_, **__):
        """Runs the commands of this package in this process: fairseq is imported already."""
        commands.append(command[3])
        assert main(command[3:]) == 0

    monkeypatch.setattr("rdrop_fairseq.ablation.further.supervise", here)
    for _ in range(2):
        measure(trials[0], further, threading.Event())
        measure_ensemble(trials, tmp_path, further, threading.Event())
    assert commands == ["score", "perplexity"] * 2
    found = make_ensemble(trials, tmp_path, "tokenized", further)
    assert found.nll == pytest.approx(nll_by_hand(data, [trial.checkpoint for trial in trials]), abs=1e-5)
    folder = trials[0].directory / "average-2.test"
    bits = perplexity.read(folder / "test.perplexity.json")["bits_per_word"]
    assert bits == pytest.approx(nll_by_hand(data, [folder / "averaged.pt"]), abs=1e-5)


def test_curves_and_pictures(finished):
    out, _ = finished
    with (out / "curves.csv").open() as file:
        every = list(csv.DictReader(file))
    rows = [row for row in every if row["metric"] == "nll_loss"]
    places = {(row["system"], row["seed"], row["updates"]) for row in rows}
    assert places == {(system, "1", updates) for system in ("baseline", "cutoff=token") for updates in "246"}
    assert {path.parent.name for path in out.rglob("*.cpu.csv")} == {f"{name}.seed1" for name, _, _ in places}
    assert not list(out.rglob("score.cpu.csv"))  # for training alone there is a curve
    assert len(rows) == len(places)
    # nll of training, plain or of two views: per token of one view, on the scale of validation
    train = [float(row["value"]) for row in every if row["metric"] == "train_nll_loss"]
    assert train == pytest.approx([float(row["value"]) for row in rows], rel=0.25)
    for name in ("axis-cutoff", "curves-updates", "curves-seconds", "nll-updates", "nll-seconds", "envelope"):
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
    assert "holds a training with other settings (dropout 0.1, now 0.4): give another --out" in capsys.readouterr().err


def test_what_a_training_took_is_cpu_seconds_on_a_cpu_alone(finished, tmp_path):
    out, _ = finished
    known = record.read(out / "runs" / "cutoff=token.seed1")
    assert known["device"] == "cpu"
    assert known["trained"]["max_update"] == 6
    assert known["cpu_seconds"] > 0
    assert known["seconds"] > 0
    del known["cpu_seconds"]
    (tmp_path / record.NAME).write_text(json.dumps({**known, "device": "a GPU", "seconds": 5.0}))
    assert Trial("x", 1, tmp_path, tmp_path, (), Namespace()).took == (5.0, "seconds")


def test_more_updates_train_on_and_measure_again(finished, tmp_path, monkeypatch):
    """The commands on a copy, which are not run here."""
    out, words = finished
    copy = shutil.copytree(out, tmp_path / "copy")
    args = ablate._parser("ablate").parse_args([words[1], "--out", str(copy), "--generate", "--beam 1"])
    commands = []
    for module in ("training.run", "ablation.trial", "ablation.further"):
        record_it = lambda command, *_, **__: commands.append(command[2:4])  # noqa: E731
        monkeypatch.setattr(f"rdrop_fairseq.{module}.supervise", record_it)

    def finish(*more):
        [trial] = ablate.make_trials([BASELINE], args, [*BASE, *more])["baseline"]
        ablate._finish(trial, copy, Further("test"), ablate.make_places([trial], 1), threading.Event())
        wanted = ("fairseq_cli.train", "score", "perplexity")
        return [name for command in commands for name in command if name in wanted]

    assert finish() == []
    monkeypatch.setattr(args, "subset", "valid")
    assert finish() == ["score"]  # the nll of valid is there
    monkeypatch.setattr(args, "subset", "test")
    commands.clear()
    assert finish("--max-update", "7") == ["fairseq_cli.train", "score", "perplexity"]
    assert not (copy / "runs" / "baseline.seed1" / "test").exists()


def test_each_training_at_a_time_has_a_gpu_of_its_own(tmp_path, monkeypatch):
    """Two at a time of three on the GPUs 4 and 6; with --cpu none, with a world size all of them."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,6")
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    together, used = threading.Barrier(2, timeout=60), []

    def run(trial, device, stop):
        used.append((trial.environment["CUDA_VISIBLE_DEVICES"], device))
        together.wait() if trial.seed < 3 else None

    monkeypatch.setattr(Trial, "run", run)
    monkeypatch.setattr(Trial, "took", (1.0, "seconds"))
    trials = [Trial("x", n, tmp_path, tmp_path / str(n), (), Namespace(cpu=False)) for n in (1, 2, 3)]
    ablate.run_all(trials, Namespace(parallel=2, report=False, out=tmp_path), Further("test"))
    assert sorted(used[:2]) == [("4", "gpu"), ("6", "gpu")]
    assert len(used) == 3
    assert ablate.make_places([replace(trials[0], words=("--distributed-world-size=2",))], 1).get() == "4,6"
    on_cpu = [replace(trials[2], seen=Namespace(cpu=True))]
    ablate.run_all(on_cpu, Namespace(parallel=1, report=False, out=tmp_path), Further("test"))
    assert used[3] == ("", "cpu")  # fairseq would start a process for each GPU that it sees


def test_the_others_go_on_where_one_fails(tmp_path, monkeypatch):
    ran = []

    def run(trial, device, stop):
        ran.append(trial.seed)
        if trial.seed == 1:
            raise UserError("out of memory")

    monkeypatch.setattr(Trial, "run", run)
    monkeypatch.setattr(Trial, "took", (1.0, "seconds"))
    trials = [Trial("x", n, tmp_path, tmp_path / str(n), (), Namespace(cpu=True)) for n in (1, 2, 3)]
    failed = ablate.run_all(trials, Namespace(parallel=1, report=False, out=tmp_path), Further("test"))
    assert ran == [1, 2, 3]
    assert {name: str(error) for name, error in failed.items()} == {"x, seed 1": "out of memory"}


def test_some_systems_alone(tiny_data, tmp_path, monkeypatch):
    """One job of many: it trains what is named, and reports on all."""
    trained, reported = [], []
    monkeypatch.setattr(ablate, "run_all", lambda trials, *_: trained.extend(trial.name for trial in trials) or {})
    monkeypatch.setattr(ablate, "write_report", lambda systems, *_: reported.extend(each.name for each in systems))
    words = ["--vary", "alpha", "1", "3", "--seeds", "1", "2", "--only", "alpha=3", "baseline"]
    assert main(command(tiny_data, tmp_path, *words)) == 0
    assert trained == ["alpha=3, seed 1", "baseline, seed 1", "alpha=3, seed 2", "baseline, seed 2"]
    assert reported == ["baseline", "alpha=1", "alpha=3"]


def test_an_older_record_is_read_and_resumed(tmp_path, monkeypatch):
    """A file as it was written before there was one record for all, of a training that has reached its end."""
    options.load_plugin()
    shutil.copy(Path(__file__).parent / "trial.json", tmp_path / record.OLDER)
    words = tuple(json.loads((tmp_path / record.OLDER).read_text())["words"])
    (tmp_path / "test").mkdir()
    (tmp_path / "test" / "scores.json").write_text("{}")

    def trial(*more):
        seen = options.parse([str(tmp_path), *words, *more, "--seed", "1"], "now")
        return Trial("dropout=0.4", 1, tmp_path, tmp_path, (*words, *more), seen)

    trial().training().check()
    trial("--keep-interval-updates", "7").training().check()
    assert trial().finished
    assert trial().took == (1384.44, "CPU seconds")
    assert not trial("--max-update", "70000").finished
    with pytest.raises(UserError, match=r"\(dropout 0.4, now 0.2\): give another --out, or remove .*trial.json"):
        trial("--dropout=0.2").training().check()
    with trial("--max-update", "70000").training().claim():
        known = record.read(tmp_path)
    assert (known["cpu_seconds"], known["trained"]["max_update"]) == (1384.44, 60000)


def test_report_alone(finished, capsys):
    """Trains nothing; what was not started is named; again, and every file is the same."""
    out, words = finished
    cut = words.index("--")
    words = [*words[:cut], "--report", "--vary", "passes", "3", "--seeds", "1", "2", "--ensemble", *words[cut:]]
    found = []
    for _ in range(2):
        assert main(words) == 0
        found.append({path.name: path.read_bytes() for path in out.iterdir() if path.is_file()})
        assert "cutoff=token" in capsys.readouterr().out
    assert found[0] == found[1]
    shown = found[0]["table.md"].decode()
    assert "| passes=3" not in shown
    assert "- passes=3, seed 1: not started\n" in shown
    assert shown.endswith("- no ensemble: baseline, seed 2 is not finished\n")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--vary", "alpha"], "--vary needs a name and at least one value"),
        (["--vary", "alhpa", "3"], "system alhpa=3: unrecognized arguments: --alhpa=3"),
        (["--vary", "cutoff", "words"], "system cutoff=words: argument --rdrop-cutoff: invalid choice"),
        (["--vary", "alpha", "3", "--only", "alpha=5"], "no system of this command: choose from baseline, alpha=3"),
        (["--report"], "no training in .* has been validated yet"),
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
    assert "2 of 2 failed, the first of them baseline, seed 1: " in said
    assert "embed_dim must be divisible by num_heads" in said
    assert "train.log" in said


def test_a_trial_without_a_checkpoint(tmp_path):
    with pytest.raises(UserError, match="leave out --no-save"):
        Trial("x", 1, tmp_path, tmp_path, (), Namespace()).score_command()
