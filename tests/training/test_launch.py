"""The command that the launcher puts together, for devices that this machine need not have."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from rdrop_fairseq.errors import UserError
from rdrop_fairseq.training import launch, options
from rdrop_fairseq.training.batch import SMALLEST
from rdrop_fairseq.training.config import find_config, names, read_config
from rdrop_fairseq.training.launch import without
from rdrop_fairseq.training.run import Run, pretty

ROOT = Path(__file__).parents[2]


def value(job: Run, option: str) -> str:
    """The value of an option that must be there exactly once."""
    assert job.command.count(option) == 1, (option, job.command)
    return job.command[job.command.index(option) + 1]


@pytest.mark.parametrize(
    ("gpus", "max_tokens", "update_freq"), [(0, "4096", "1"), (1, "4096", "1"), (2, "2048", "1"), (4, "1024", "1")]
)
def test_the_batch_of_the_recipe_on_any_number_of_gpus(plan, gpus: int, max_tokens: str, update_freq: str) -> None:
    job = plan(gpus=gpus)
    assert value(job, "--max-tokens") == max_tokens
    assert value(job, "--update-freq") == update_freq
    assert value(job, "--distributed-world-size") == str(max(1, gpus))
    assert ("torchrun" in job.command[0]) == (gpus > 1)
    assert "= 4096 tokens per update" in job.summary
    if gpus > 1:  # validation does not depend on the number of GPUs
        assert value(job, "--max-tokens-valid") == "4096"


def test_what_does_not_divide(plan, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UserError, match="4096 tokens per update do not divide over 3 devices"):
        plan(gpus=3)
    for words, extra in (("--update-freq 2", ()), ("", ("--update-freq=2",))):
        job = plan(words, gpus=3, extra=extra)
        assert value(job, "--update-freq") == "2"
        assert "4096 tokens x 3 devices x update-freq 2 = 24576" in job.summary
        assert "warning: the recipe's batch is 4096" in capsys.readouterr().err


def test_a_language_models_batch_holds_whole_blocks(plan, monkeypatch, capsys) -> None:
    """512 tokens each: what is announced is what fairseq fills, whatever --max-tokens would have room for."""
    monkeypatch.setattr(launch, "check_data", lambda *_: None)
    job = plan("--update-freq 16", gpus=8, config="wikitext103_gpt_rdrop")
    assert "1536 tokens x 8 devices x update-freq 16 = 196608 tokens per update" in job.summary
    assert "warning" not in capsys.readouterr().err
    job = plan(gpus=8, config="wikitext103_gpt_rdrop", extra=("--max-tokens", "8000"))
    assert (value(job, "--max-tokens"), value(job, "--update-freq")) == ("6144", "4")
    assert value(job, "--max-tokens-valid") == "2000"  # of 267,744 logits each, which training never holds at once


def test_max_tokens_after_the_dashes_is_what_is_announced_and_trained(plan) -> None:
    """The most that one GPU gets: given again behind the settled value, it would have won."""
    for words in (("--max-tokens", "4096"), ("--max-tokens=4096",), ("--max-tokens", "8192")):
        job = plan(gpus=2, extra=words)
        assert value(job, "--max-tokens") == "2048"
        assert not any(word.startswith("--max-tokens=") for word in job.command)
        assert "2048 tokens x 2 devices x update-freq 1 = 4096" in job.summary
    job = plan(gpus=1, extra=("--max-tokens", "1024"))  # a smaller GPU accumulates
    assert (value(job, "--max-tokens"), value(job, "--update-freq")) == ("1024", "4")
    job = plan(gpus=2, extra=("--max-tokens-valid=1000",))
    assert "--max-tokens-valid" not in job.command
    assert "--max-tokens-valid=1000" in job.command


def test_a_list_of_update_freq_is_never_cut(plan, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"--update-freq 1,4 changes the batch .* fixes it"):
        plan(extra=("--update-freq", "1,4"))
    text = find_config("iwslt14_de_en_rdrop", ROOT).read_text(encoding="utf-8")
    free = "\n".join(line for line in text.splitlines() if not line.startswith(("tokens-per", "max-tokens")))
    (tmp_path / "free_SYSTEM.yaml").write_text(free, "utf-8")
    job = plan(extra=("--max-tokens", "4096", "--update-freq", "1,4"), config=str(tmp_path / "free_rdrop"))
    assert value(job, "--update-freq") == "1,4"
    job = plan("--update-freq 2", extra=("--batch-size", "8"), config=str(tmp_path / "free_rdrop"))
    assert value(job, "--update-freq") == "2"


@pytest.mark.parametrize("name", names(ROOT))
def test_each_config_says_the_batch_that_fairseq_trains(name: str, plan, monkeypatch: pytest.MonkeyPatch) -> None:
    """Read back from the command by fairseq's own parser, on 1 to 16 GPUs; what cannot be trained is refused."""
    monkeypatch.setattr(launch, "check_data", lambda *_: None)
    monkeypatch.setattr(launch, "settle_pretrained", lambda *_: None)
    experiment = read_config(find_config(name, ROOT), name)
    wanted, unit = experiment.per_update
    block = next((int(entry.value) for entry in experiment.options if entry.key == "tokens-per-sample"), 1)
    for devices in (1, 2, 4, 8, 16):
        if wanted is not None and (wanted // devices < SMALLEST[unit] or wanted % (devices * block)):
            with pytest.raises(UserError, match="do not divide"):
                plan(gpus=devices, config=name)
            continue
        job = plan(gpus=devices, config=name)
        start = next(i for i, word in enumerate(job.command) if word.endswith("fairseq-train")) + 1
        seen = options.parse(without(job.command[start:], "--user-dir"), name)
        size = seen.batch_size if unit == "sentences" else seen.max_tokens
        trained = size * seen.update_freq[0] * seen.distributed_world_size
        assert wanted in (None, trained)
        assert unit == "sentences" or size % block == 0
        assert ("batch as given" if wanted is None else f"= {trained} {unit} per update") in job.summary


@pytest.mark.parametrize(
    ("gpus", "capability", "wanted", "precision"),
    [
        (0, (0, 0), "auto", "fp32"),
        (1, (6, 1), "auto", "fp32"),  # Pascal: fp16 at a 64th of the speed
        (1, (7, 5), "auto", "fp16"),
        (1, (9, 0), "auto", "fp16"),
        (1, (9, 0), "bf16", "bf16"),
        (1, (7, 5), "fp32", "fp32"),
    ],
)
def test_the_precision_follows_from_the_device(
    plan, gpus: int, capability: tuple[int, int], wanted: str, precision: str
) -> None:
    job = plan(f"--precision {wanted}", gpus, capability)
    given = [word for word in job.command if word in ("--fp16", "--bf16")]
    assert given == ([] if precision == "fp32" else [f"--{precision}"])
    assert job.summary.endswith(f"; {precision}")


def test_a_precision_that_the_device_does_not_have_is_refused(plan) -> None:
    with pytest.raises(UserError, match=r"a GPU of compute capability 7\.5 does not train in bf16"):
        plan("--precision bf16", 1, (7, 5))
    with pytest.raises(UserError, match="a CPU does not train in fp16"):
        plan("--precision fp16")


def test_a_precision_given_to_fairseq_is_left_alone(plan) -> None:
    job = plan(gpus=1, extra=("--bf16",))
    assert "--fp16" not in job.command
    assert job.command[-1] == "--bf16"


def test_cpu_is_obeyed_beside_gpus(plan) -> None:
    """Without its world size said, fairseq would start a process for each of the GPUs."""
    job = plan(gpus=4, extra=("--cpu",))
    assert value(job, "--distributed-world-size") == "1"
    assert "--fp16" not in job.command


def test_several_machines(plan) -> None:
    job = plan("--nodes 2 --rendezvous first:29500", gpus=2)
    assert job.command[1:9] == [
        *("--nnodes", "2", "--rdzv-backend", "c10d"),
        *("--rdzv-id", "iwslt14_de_en_rdrop", "--rdzv-endpoint", "first:29500"),
    ]
    assert value(job, "--nproc-per-node") == "2"
    assert value(job, "--distributed-world-size") == "4"
    assert job.log.name != "train.log"
    with pytest.raises(UserError, match="--nodes needs --rendezvous HOST:PORT"):
        plan("--nodes 2", gpus=2)


def test_seeds_and_save_directories(plan, tmp_path: Path) -> None:
    assert value(plan(), "--save-dir") == "outputs/iwslt14_de_en_rdrop"
    for job in (plan("--seed 3"), plan(extra=("--seed", "3"))):
        assert value(job, "--seed") == "3"
        assert value(job, "--save-dir") == "outputs/iwslt14_de_en_rdrop.seed3"
    for job in (plan(f"--save-dir {tmp_path}"), plan(extra=("--save-dir", str(tmp_path)))):
        assert value(job, "--save-dir") == str(tmp_path)
        assert job.log == tmp_path / "train.log"


def test_a_pretrained_model_is_looked_for_before_training(plan, tmp_path: Path) -> None:
    wanted = ("--finetune-from-model", str(tmp_path / "model.pt"), "--save-dir", str(tmp_path))
    with pytest.raises(UserError, match=r"there is no .*model\.pt to start from"):
        plan(extra=wanted)
    torch.save({}, tmp_path / "checkpoint_last.pt")  # training has begun: the model is no longer needed
    assert "continues" in plan(extra=wanted).summary


def test_a_broken_last_checkpoint_is_gone_around(plan, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    last, best = tmp_path / "checkpoint_last.pt", tmp_path / "checkpoint_best.pt"
    torch.save({"model": torch.arange(500.0)}, last)
    words = f"--save-dir {tmp_path}"
    assert "--restore-file" not in plan(words).command
    last.write_bytes(last.read_bytes()[:-100])
    with pytest.raises(UserError, match="remove it to start anew"):
        plan(words)
    torch.save({"model": torch.arange(500.0)}, best)
    assert value(plan(words), "--restore-file") == str(best)
    assert "checkpoint_last.pt is cut short: resuming from checkpoint_best.pt" in capsys.readouterr().err
    other = plan(words, extra=("--restore-file", "mine.pt"))
    assert value(other, "--restore-file") == "mine.pt"
    tuned = plan(words, extra=("--finetune-from-model", str(best)))
    assert value(tuned, "--restore-file") == str(best)
    assert "--finetune-from-model" not in tuned.command


@pytest.mark.parametrize("option", ["--user-dir", "--distributed-world-size=2"])
def test_what_the_launcher_settles_is_not_given_twice(plan, option: str) -> None:
    with pytest.raises(UserError, match="is set by the launcher"):
        plan(extra=(option,))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--rdrop-alpha", "-1"), "alpha must be a finite number >= 0, got -1.0"),
        (("--rdrop-passes", "1"), "--rdrop-passes must be at least 2, got 1"),
        (("--label-smoothing", "1"), r"--label-smoothing must be in \[0, 1\), got 1.0"),
    ],
)
def test_what_the_criterion_would_refuse_is_told_before_anything_is_written(plan, words, message) -> None:
    with pytest.raises(UserError, match=message):
        plan(extra=words)


@pytest.mark.parametrize("name", ["iwslt14_de_en_simcut", "glue_rte_roberta_large_rdrop", "wikitext103_adaptive_rdrop"])
def test_every_criterion_is_checked_without_data(name: str) -> None:
    config = read_config(find_config(name, ROOT), name)
    options.check_criterion(options.check(config, [], "DATA")[1])
    with pytest.raises(UserError, match="alpha must be a finite number"):
        options.check_criterion(options.check(config, ["--rdrop-alpha=-1"], "DATA")[1])


def test_the_printed_command_can_be_pasted(plan) -> None:
    import shlex

    job = plan(gpus=2)
    assert shlex.split(pretty(job.command).replace("\\\n", " ")) == job.command


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        *((option, value, f"{value} is no whole number above 0") for option, value in (
            ("--processes", "0"), ("--nodes", "-1"), ("--update-freq", "two"))),
        ("--precision", "fp8", "invalid choice: 'fp8'"),
    ],
)  # fmt: skip
def test_values_that_the_launcher_does_not_know(option, value, message, capsys) -> None:
    with pytest.raises(SystemExit):
        launch.main(["iwslt14_de_en_rdrop", option, value], "train")
    assert f"argument {option}: {message}" in capsys.readouterr().err
