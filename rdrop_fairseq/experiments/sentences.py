"""Which of eight books of the Bible a verse stands in: 1,500 labelled verses, a RoBERTa of two layers from scratch."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from rdrop_fairseq.experiments.texts import Verses
from rdrop_fairseq.experiments.trials import Experiment

BOOKS = {1: "Genesis", 3: "Leviticus", 18: "Job", 19: "Psalms", 20: "Proverbs", 23: "Isaiah", 40: "Matthew", 44: "Acts"}
TRAIN, HELD_OUT, OPERATIONS = 1500, 1000, 2000
OBJECTIVE = "--task sentence_prediction_rdrop --criterion sentence_prediction_rdrop"
MODEL = (
    "--arch roberta_base --encoder-layers 2 --encoder-embed-dim 64 --encoder-ffn-embed-dim 128 "
    f"--encoder-attention-heads 2 --max-positions 128 --num-classes {len(BOOKS)} --init-token 0 --separator-token 2"
)
OPTIMIZATION = "--lr 1e-3 --warmup-updates 50 --weight-decay 0.01 --batch-size 16 --batch-size-valid 250 --patience 8"
VALIDATE_EVERY = 100
DROPOUTS = ("dropout", "attention-dropout", "pooler-dropout")  # of the layers, of attention and of the head
AXES: dict[str, tuple[str, ...]] = {"dropout": ("0.3", "0.1", "0.5", "0"), "alpha": ("1", "0.1", "0.3", "3")}


def experiment(out: Path) -> Experiment:
    """The experiment, its data prepared and its packages imported."""
    data = Verses(out / "sentences", BOOKS, TRAIN, HELD_OUT).prepare(OPERATIONS, labels=True)
    from rdrop_fairseq.experiments import fairseq_runs  # here once, not in every training

    title = "verses by book, RoBERTa of 2 layers, 1,500 sentences"
    recipe = [BOOKS, TRAIN, HELD_OUT, OPERATIONS, MODEL, OPTIMIZATION, VALIDATE_EVERY, fairseq_runs.COMMON]
    words = f"{OBJECTIVE} {MODEL} {OPTIMIZATION}".split()
    train = partial(fairseq_runs.train, data, words, DROPOUTS, VALIDATE_EVERY, "accuracy")
    return Experiment(title, "accuracy", AXES, train, "sentences", str(recipe))
