"""600 verses of the Gospels and Acts, a decoder-only Transformer of one layer; nll per token of BPE."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from rdrop_fairseq.experiments.texts import Verses
from rdrop_fairseq.experiments.trials import Experiment

BOOKS = {40: "Matthew", 41: "Mark", 42: "Luke", 43: "John", 44: "Acts"}
TRAIN, HELD_OUT, OPERATIONS = 600, 300, 600
OBJECTIVE = "--task language_modeling_rdrop --criterion label_smoothed_cross_entropy_rdrop --label-smoothing 0"
MODEL = (
    "--arch transformer_lm --decoder-layers 1 --decoder-embed-dim 48 --decoder-ffn-embed-dim 96 "
    "--decoder-attention-heads 2 --share-decoder-input-output-embed --decoder-normalize-before "
    "--sample-break-mode none --tokens-per-sample 64"
)
OPTIMIZATION = "--lr 3e-3 --warmup-updates 100 --max-tokens 256 --max-update 6000"
VALIDATE_EVERY = 50
DROPOUTS = ("dropout", "attention-dropout")  # of embeddings and layers, and of attention
AXES: dict[str, tuple[str, ...]] = {
    "dropout": ("0.2", "0", "0.05", "0.1", "0.3", "0.4"),
    "alpha": ("1", "0.1", "0.3", "3"),
}


def experiment(out: Path) -> Experiment:
    """The experiment, its data prepared and its packages imported."""
    data = Verses(out / "language_model", BOOKS, TRAIN, HELD_OUT).prepare(OPERATIONS, labels=False)
    from rdrop_fairseq.experiments import fairseq_runs  # here once, not in every training

    title = "verses of the Gospels and Acts, Transformer LM of 1 layer"
    recipe = [BOOKS, TRAIN, HELD_OUT, OPERATIONS, MODEL, OPTIMIZATION, VALIDATE_EVERY, fairseq_runs.COMMON]
    words = f"{OBJECTIVE} {MODEL} {OPTIMIZATION}".split()
    train = partial(fairseq_runs.train, data, words, DROPOUTS, VALIDATE_EVERY, "loss")
    return Experiment(title, "nll", AXES, train, "tokens", str(recipe))
