"""Checkpoints under today's torch: fairseq's own are read, what could run code is refused, broken ones are named."""

from __future__ import annotations

import argparse
import io
import os
import re
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from fairseq import checkpoint_utils, options
from fairseq.data import TokenBlockDataset
from fairseq.dataclass.utils import convert_namespace_to_omegaconf
from fairseq.optim import AMPOptimizer
from omegaconf import OmegaConf
from tiny_fairseq import PLUGIN, RDROP, train
from tiny_training import succeed

from rdrop_fairseq import compat
from rdrop_fairseq.errors import UserError

BLEU = ["--eval-bleu", "--eval-bleu-args", '{"beam": 2, "max_len_b": 12}']
COMMON = ["--source-lang", "xx", "--target-lang", "yy", "--cpu", "--required-batch-size-multiple", "1"]


def load(path):
    return checkpoint_utils.load_checkpoint_to_cpu(str(path))


@pytest.fixture(scope="module")
def run(corpus, tmp_path_factory):
    """A run with --eval-bleu, whose meters are numpy arrays."""
    folder = tmp_path_factory.mktemp("run")
    train(corpus, folder, "--task", "translation_rdrop", *RDROP, *BLEU, "--max-update", "2")
    return folder


def test_the_checkpoint_holds_what_torch_refuses(run):
    """Else the tests below would show nothing."""
    with torch.serialization.safe_globals([]):
        torch.serialization.clear_safe_globals()
        try:
            with pytest.raises(Exception, match=r"argparse\.Namespace|numpy"):
                torch.load(run / "checkpoint_last.pt", weights_only=True)
        finally:
            compat.allow_fairseq_checkpoints()
    assert load(run / "checkpoint_last.pt")["cfg"]["task"]["_name"] == "translation_rdrop"


def test_generate(corpus, run):
    """As a user calls it: a fresh process that knows the plugin by --user-dir only."""
    words = [corpus, "--path", run / "checkpoint_best.pt", *COMMON, "--beam", 2, "--max-len-b", 12]
    printed = succeed(sys.executable, "-m", "fairseq_cli.generate", *words, "--user-dir", PLUGIN)
    assert len(re.findall("^H-", printed, re.MULTILINE)) == 8


def test_interactive(corpus, run, tmp_path, capsys):
    from fairseq_cli import interactive

    (tmp_path / "input").write_text("w01 w02\nw03\n")
    words = [str(corpus), "--path", str(run / "checkpoint_last.pt"), *COMMON, "--buffer-size", "4", "--beam", "1"]
    parser = options.get_interactive_generation_parser()
    words += ["--input", str(tmp_path / "input"), "--max-len-b", "12"]
    interactive.main(convert_namespace_to_omegaconf(options.parse_args_and_arch(parser, input_args=words)))
    out = capsys.readouterr().out
    assert "S-0\tw01 w02" in out
    assert "H-1\t" in out


def test_a_checkpoint_of_another_dictionary_is_one_sentence(corpus, run, tmp_path):
    for language in ("xx", "yy"):
        words = (corpus / f"dict.{language}.txt").read_text() + "one-more 1\n"
        (tmp_path / f"dict.{language}.txt").write_text(words)
    words = [str(run / "checkpoint_last.pt")], {"data": str(tmp_path)}
    with pytest.raises(UserError, match=r"_last\.pt has \S+embed_tokens\S+ of size \[20, 16\], .* it \[21, 16\]: give"):
        checkpoint_utils.load_model_ensemble_and_task(*words)


def test_validate(corpus, run, monkeypatch):
    from fairseq_cli import validate

    printed = {}

    class Progress(list):
        def __init__(self, batches, **kwargs):
            super().__init__(batches)

        def log(self, stats, step):
            pass

        def print(self, stats, tag, step):
            printed[tag] = stats

    monkeypatch.setattr(validate.progress_bar, "progress_bar", Progress)
    parser = options.get_validation_parser()
    words = [str(corpus), "--path", str(run / "checkpoint_last.pt"), *COMMON, "--task", "translation_rdrop"]
    words += ["--batch-size", "4"]
    validate.main(convert_namespace_to_omegaconf(options.parse_args_and_arch(parser, input_args=words)))
    assert printed["valid"]["nll_loss"] > 0
    assert "bleu" in printed["valid"]


def test_resumed_training(corpus, run):
    train(corpus, run, "--task", "translation_rdrop", *RDROP, *BLEU, "--max-update", "3")
    assert load(run / "checkpoint_last.pt")["optimizer_history"][-1]["num_updates"] == 3


class Attack:
    """Unpickling it runs a shell command; `marker` shows whether it ran."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.system, (f"touch '{self.marker}'",)


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy format"])
@pytest.mark.parametrize("where", ["top", "args", "numpy array"])
def test_a_checkpoint_that_tries_to_run_code(tmp_path, where, zipped):
    marker, path = tmp_path / "marker", tmp_path / "checkpoint.pt"
    attack = Attack(marker)
    state = {
        "top": attack,
        "args": {"args": argparse.Namespace(arch=attack), "model": {}},
        "numpy array": {"model": {"a": np.array([attack, None], dtype=object)}},
    }[where]
    torch.save(state, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(UserError) as refused:
        load(path)
    assert not marker.exists()
    message = str(refused.value)
    assert message.startswith(f"checkpoint {path} is refused: it holds ")
    assert ("ObjectDType" if where == "numpy array" else "system") in message
    assert f"set {compat.TRUST}=1 for this command" in message
    assert "\n" not in message
    torch.load(path, weights_only=False)  # it is an attack indeed
    assert marker.exists()


def test_the_documented_way_to_trust_a_file(tmp_path, monkeypatch):
    path = tmp_path / "checkpoint.pt"
    torch.save({"best": Fraction(1, 3), "model": {}, "args": None}, path)
    with pytest.raises(UserError, match=r"it holds fractions\.Fraction, which could run code"):
        load(path)
    monkeypatch.setenv(compat.TRUST, "1")
    assert torch.load(path)["best"] == Fraction(1, 3)


def test_an_old_checkpoint_with_its_arguments(tmp_path):
    """As before fairseq 1.0 and as BART is published: a Namespace instead of a configuration."""
    args = argparse.Namespace(arch="transformer", task="translation", lr=[0.1], criterion="cross_entropy")
    state = {
        "args": args,
        "model": {"weight": torch.ones(2)},
        "optimizer_history": [{"criterion_name": "CrossEntropyCriterion", "best_loss": 2.5}],
        "extra_state": {"train_iterator": {"epoch": 3}, "val_loss": np.float32(2.5), "counts": np.arange(3)},
        "last_optimizer_state": None,
    }
    torch.save(state, tmp_path / "old.pt")
    found = load(tmp_path / "old.pt")
    assert found["args"].arch == "transformer"
    assert found["model"]["weight"].tolist() == [1.0, 1.0]
    assert found["extra_state"]["val_loss"] == 2.5
    assert found["extra_state"]["counts"].tolist() == [0, 1, 2]


@pytest.mark.parametrize("code", "?bBhHiIlLqQefd")
def test_numpy_arrays_of_numbers(code, tmp_path):
    torch.save({"x": np.zeros(2, code), "y": np.ones(1, code)[0]}, tmp_path / "c.pt")
    found = torch.load(tmp_path / "c.pt", weights_only=True)
    assert found["x"].dtype == np.dtype(code)
    assert found["y"] == 1


@pytest.mark.parametrize(
    ("zipped", "keep"),
    [*((True, keep) for keep in (0, 10, 200, 0.5, 0.99)), *((False, keep) for keep in (0, 1, 0.5, 0.99))],
)
def test_a_truncated_checkpoint(tmp_path, keep, zipped):
    """Where it ends decides which of torch's errors it is: EOFError, RuntimeError, OSError 22, IndexError."""
    whole = io.BytesIO()
    torch.save({"args": None, "model": {"w": torch.randn(50, 50)}}, whole, _use_new_zipfile_serialization=zipped)
    data = whole.getvalue()
    size = keep if isinstance(keep, int) else int(keep * len(data))
    path = tmp_path / "checkpoint.pt"
    path.write_bytes(data[:size])
    with pytest.raises(UserError) as broken:
        load(path)
    message = f"checkpoint {path} is not whole ({size} bytes): remove it and resume from the checkpoint before it"
    assert str(broken.value) == message
    assert path.read_bytes() == data[:size]


@pytest.mark.parametrize("data", [b"These are notes.\n" * 100, bytes(range(150, 250)) * 20], ids=["text", "bytes"])
def test_a_file_that_is_no_checkpoint(tmp_path, data):
    path = tmp_path / "notes.pt"
    path.write_bytes(data)
    with pytest.raises(UserError) as refused:
        load(path)
    assert str(refused.value) == f"{path} is not a readable checkpoint, or it is damaged: give another file"


def test_a_missing_file_stays_what_it_is(tmp_path):
    with pytest.raises(FileNotFoundError):
        load(tmp_path / "none.pt")


def test_what_is_allowed_is_found_by_an_older_torch() -> None:
    """torch 2.4 and 2.5 make this table of all that is registered, so one entry without a name breaks every load."""
    compat.apply()
    compat.apply()
    registered = torch.serialization.get_safe_globals()
    table = {f"{entry.__module__}.{entry.__name__}": entry for entry in registered}
    names = {f"numpy.{core}.multiarray.{name}" for core in ("core", "_core") for name in ("_reconstruct", "scalar")}
    assert names | {"argparse.Namespace", "numpy.ndarray", "_codecs.encode"} <= set(table)  # the last: of torch 2.5
    for core in ("core", "_core"):
        assert table[f"numpy.{core}.multiarray._reconstruct"](np.ndarray, (0,), b"b").size == 0
    assert len(registered) == len(table)  # registered once


def test_applying_twice_changes_nothing():
    before = checkpoint_utils.load_checkpoint_to_cpu
    compat.apply()
    assert checkpoint_utils.load_checkpoint_to_cpu is before
    assert Path(compat.__file__).parent == PLUGIN


@pytest.mark.parametrize("scale", [1, 128, 65536])
@pytest.mark.parametrize("clip", [0.0, 0.25])
def test_amp_unscales_gradients_once(monkeypatch, scale, clip):
    """A step of SGD under --amp is the gradient, clipped or not, whatever the loss scale. torch's GradScaler is the one
    for a GPU, on a CPU."""
    scaler = torch.amp.GradScaler
    monkeypatch.setattr(torch.cuda.amp, "GradScaler", lambda **options: scaler("cpu", **options))
    weight = torch.nn.Parameter(torch.zeros(2))
    sgd = {"_name": "sgd", "lr": [1.0], "momentum": 0.0, "weight_decay": 0.0}
    cfg = OmegaConf.create({"common": {"fp16_init_scale": scale, "min_loss_scale": 1e-4}, "optimizer": sgd})
    optimizer = AMPOptimizer.build_optimizer(cfg, [weight])
    optimizer.set_lr(1.0)
    optimizer.backward((weight * torch.tensor([0.3, 0.4])).sum())
    assert float(optimizer.clip_grad_norm(clip)) == pytest.approx(0.5)
    optimizer.step()
    share = clip / 0.5 if clip else 1.0
    torch.testing.assert_close(weight.detach(), -share * torch.tensor([0.3, 0.4]))


def test_a_name_that_numpy_has_lost() -> None:
    """fairseq asks for it where each line of a language model's text is a sample."""
    lines = [torch.tensor([4, 5, 2]), torch.tensor([6, 2])]
    blocks = TokenBlockDataset(lines, [3, 2], 512, pad=1, eos=2, break_mode="eos")
    assert [blocks[number].tolist() for number in range(2)] == [[4, 5, 2], [6, 2]]


READS = """
import torch
from fairseq.data import iterators
import rdrop_fairseq

class Numbers(torch.utils.data.Dataset):
    def __len__(self): return 10**5
    def __getitem__(self, index): return index

def collate(numbers):
    for _ in range(300):
        batch = torch.ones(200).exp() + numbers[0]
    return batch

batches = iterators.EpochBatchIterator(Numbers(), collate, [[n] for n in range(10**5)], num_workers=0, buffer_size=10)
epoch = batches.next_epoch_itr(shuffle=False)
print([int(next(epoch)[0]) for _ in range(3)])  # 2.7 + n
"""


def test_a_process_ends_well_within_an_epoch() -> None:
    """Without the patch the reading thread aborts the process: it is within a torch operation when Python ends."""
    assert succeed(sys.executable, "-c", READS) == "[2, 3, 4]\n"
