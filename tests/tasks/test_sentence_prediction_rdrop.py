"""The task on bad input, on a checkpoint to start from, over a restart, and on two processes."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
import tiny_fairseq
import torch
from tiny_roberta import BART, RDROP, config, session, write_sentences

from rdrop_fairseq.errors import UserError

ROOT = Path(__file__).parents[2]
REGRESSION = ["--regression-target", "--num-classes", "1"]


@pytest.fixture(scope="module")
def classes(tmp_path_factory):
    return write_sentences(tmp_path_factory.mktemp("classes"))


@pytest.fixture(scope="module")
def numbers(tmp_path_factory):
    return write_sentences(tmp_path_factory.mktemp("numbers"), classes=())


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--num-classes", "3"], r"--num-classes 3: .*label has 2 classes \(1, 0\): give their number"),
        (["--num-classes", "-1"], "the number of classes is missing"),
        (REGRESSION, "no label/train.label with numbers; its labels are classes: leave out --regression-target"),
    ],
)
def test_options_that_do_not_fit_the_data(classes, words, message):
    with pytest.raises(UserError, match=message):
        session(classes, *RDROP, *words)


def test_numbers_without_regression(numbers):
    with pytest.raises(UserError, match="its labels are numbers: add --regression-target"):
        session(numbers, *RDROP)


def test_no_data(tmp_path):
    with pytest.raises(UserError, match=r"has no input0/dict.txt: prepare the data with scripts/prepare_glue.sh"):
        session(tmp_path, *RDROP)


def test_a_label_outside_of_the_classes(tmp_path):
    data = write_sentences(tmp_path / "data")
    train, valid = (data / "label" / f"{split}.bin" for split in ("train", "valid"))
    labels = bytearray(valid.read_bytes())
    labels[4:6] = (3).to_bytes(2, "little")  # <unk> in place of the third sentence's label (label and eos, uint16)
    labels[8:10] = (3).to_bytes(2, "little")
    valid.write_bytes(bytes(labels))
    with pytest.raises(UserError, match=r"valid: the label of sentence [23] is not one of the 2 classes"):
        session(data, *RDROP)
    assert train.is_file()


@pytest.mark.parametrize("line", ["entailment", "0.5 0.5", "", "nan"])
def test_numbers_that_are_none(tmp_path, line):
    data = write_sentences(tmp_path / "data", classes=())
    path = data / "label" / "train.label"
    path.write_text("0.5\n" + line + "\n" + "0.5\n" * 62)
    with pytest.raises(UserError, match=rf"train.label, line 2: '{line}' is not a number: are these labels classes\?"):
        session(data, *RDROP, *REGRESSION)


def test_another_number_of_labels_than_sentences(tmp_path):
    data = write_sentences(tmp_path / "data", classes=())
    (data / "label" / "train.label").write_text("0.5\n" * 63)
    with pytest.raises(UserError, match="train has another number of labels than of sentences"):
        session(data, *RDROP, *REGRESSION)


def test_an_empty_sentence_trains_as_one(classes):
    """GLUE's sets have some: it is the tokens around it."""
    run = session(classes, *RDROP)
    batch = run.batch(0, 1)
    batch["net_input"]["src_tokens"][0] = run.task.source_dictionary.pad()
    batch["net_input"]["src_tokens"][0, :2] = torch.tensor([0, 2])  # <s> </s>
    batch["net_input"]["src_lengths"][0] = 2
    loss, size, log = run.loss(batch)
    loss.backward()
    assert (size, log["nsentences"]) == (2, 2)
    assert all(torch.isfinite(p.grad).all() for p in run.model.parameters() if p.grad is not None)
    assert float(log["rdrop_kl"]) > 0


def save(path, model):
    torch.save({"model": model.state_dict(), "cfg": None, "args": None, "extra_state": {}}, path)


def test_the_checkpoint_to_start_from_is_compared(classes, tmp_path):
    path = tmp_path / "model.pt"
    save(path, session(classes, *RDROP).model)
    start = ["--finetune-from-model", path, "--save-dir", tmp_path / "run"]
    session(classes, *RDROP, *start)
    with pytest.raises(UserError, match=r"has no encoder.sentence_encoder.layers.2.* choose the --arch"):
        session(classes, *RDROP, *start, "--encoder-layers", "3")
    with pytest.raises(UserError, match=r"model.pt: .*embed_tokens.weight has the size \[\d+, 16\], that of the model"):
        session(classes, *RDROP, *start, "--encoder-embed-dim", "32", "--encoder-ffn-embed-dim", "32")
    three = write_sentences(tmp_path / "three", classes=("a", "b", "c"))
    with pytest.raises(UserError, match=r"_head for 2 classes, the model has one for 3"):
        session(three, *RDROP, *start, "--num-classes", "3")
    session(three, *RDROP, *start, "--num-classes", "3", "--classification-head-name", "other")
    with pytest.raises(UserError, match=r"there is no checkpoint .*nowhere\.pt"):
        session(classes, *RDROP, "--restore-file", tmp_path / "nowhere.pt")


def train(data, save_dir, *words, model=None):
    """A whole run of fairseq-train in this process."""
    arguments = (data, *RDROP, "--save-dir", save_dir, "--best-checkpoint-metric", "mcc", *words)
    tiny_fairseq.run(config(*arguments, "--maximize-best-checkpoint-metric", **({"model": model} if model else {})))
    return torch.load(save_dir / "checkpoint_last.pt", weights_only=True)


def test_resumed_is_the_same_training(classes, tmp_path):
    whole = train(classes, tmp_path / "whole", "--max-epoch", "2")
    train(classes, tmp_path / "parts", "--max-epoch", "1")
    parts = train(classes, tmp_path / "parts", "--max-epoch", "2")
    torch.testing.assert_close(parts["model"], whole["model"], rtol=0, atol=0)
    assert whole["extra_state"]["best"] == parts["extra_state"]["best"]


def test_bart_learns_a_label_too(classes, tmp_path):
    words = ["--max-epoch", "8", "--lr", "0.01", "--rdrop-alpha", "0.5"]
    assert train(classes, tmp_path / "bart", *words, model=BART)["extra_state"]["best"] > 0


TWO = """
import os, sys
from pathlib import Path
sys.path[:0] = {paths!r}
import torch, fairseq.distributed.utils as distributed
from fairseq_cli import train
from tiny_roberta import RDROP, config
data, out = Path(sys.argv[1]), Path(sys.argv[2])
words = sys.argv[3:]
cfg = config(data, *RDROP, "--save-dir", out, *words, "--distributed-world-size", 2, "--distributed-backend", "gloo",
             "--distributed-no-spawn", "--ddp-backend", "legacy_ddp")
cfg.distributed_training.distributed_rank = int(os.environ["RANK"])
cfg.distributed_training.distributed_init_method = "env://"
distributed.distributed_init(cfg)
train.main(cfg)
torch.distributed.barrier()
torch.distributed.destroy_process_group()
"""
STILL = ["--dropout", "0", "--attention-dropout", "0", "--pooler-dropout", "0", "--max-epoch", "2"]


@pytest.mark.parametrize(
    ("metric", "words"), [("accuracy", ["--lr", "0.1"]), ("spearman", [*REGRESSION, "--lr", "0.0001"])]
)
def test_two_processes_equal_one(classes, numbers, warm_python, tmp_path, metric, words):
    """Four sentences on each of two processes train and validate as eight on one do; 27 sentences do not divide."""
    data = classes if metric == "accuracy" else numbers
    best = ["--best-checkpoint-metric", metric, "--maximize-best-checkpoint-metric"]
    best += ["--optimizer", "sgd", "--curriculum", "9"]  # batches in the order of the data
    tiny_fairseq.run(config(data, *RDROP, "--save-dir", tmp_path / "one", *STILL, *words, *best))
    one = torch.load(tmp_path / "one" / "checkpoint_last.pt", weights_only=True)
    script = tmp_path / "two.py"
    script.write_text(TWO.format(paths=[str(ROOT), str(ROOT / "tests" / "support")]))
    launcher = [warm_python, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    done = subprocess.run(
        [*launcher, str(script), str(data), str(tmp_path / "two"), *STILL, *words, *best, "--batch-size", "4"],
        env={**os.environ, "CUDA_VISIBLE_DEVICES": ""}, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    two = torch.load(tmp_path / "two" / "checkpoint_last.pt", weights_only=True)
    torch.testing.assert_close(two["model"], one["model"], rtol=1e-3, atol=5e-4)
    assert two["extra_state"]["best"] == pytest.approx(one["extra_state"]["best"], abs=1e-2)
    assert two["extra_state"]["best"] != 0
