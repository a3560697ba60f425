"""Binarized sentences with labels and a RoBERTa of 16 dimensions: what a test of sentence prediction needs."""

from __future__ import annotations

import random
from argparse import Namespace
from pathlib import Path
from typing import Any

import small_corpora
import torch
from fairseq.data import Dictionary
from tiny_bart import write_published
from tiny_fairseq import WORDS, Session, common_options, parsed, start, word_dictionary, write_lines

RDROP = ["--criterion", "sentence_prediction_rdrop", "--rdrop-alpha", "1"]
PLAIN = ["--criterion", "sentence_prediction"]
SIZES = ["--encoder-layers", "2", "--encoder-embed-dim", "16", "--encoder-ffn-embed-dim", "32"]
ROBERTA = ["--arch", "roberta_base", *SIZES, "--encoder-attention-heads", "2", "--dropout", "0.1"]
BART = [
    *("--arch", "bart_base", *SIZES, "--encoder-attention-heads", "2", "--decoder-attention-heads", "2"),
    *("--decoder-layers", "1", "--decoder-embed-dim", "16", "--decoder-ffn-embed-dim", "32", "--dropout", "0.1"),
    *("--add-prev-output-tokens",),
]


def column(folder: Path, texts: dict[str, list[str]], dictionary: Dictionary) -> None:
    """dict.txt and the binarized lines of each split."""
    folder.mkdir(parents=True)
    dictionary.save(str(folder / "dict.txt"))
    for split, lines in texts.items():
        write_lines(folder / split, lines, dictionary)


def write_sentences(folder: Path, classes: tuple[str, ...] = ("1", "0"), train: int = 64, valid: int = 27) -> Path:
    """Pairs of sentences over 16 words; the first word of the first decides about the label. No classes: a number in
    0..1. `classes`: in the order of their numbers."""
    words, labels = word_dictionary(), Dictionary()
    for place, name in enumerate(classes):
        labels.add_symbol(name, 100 - place)
    labels.finalize(padding_factor=8)
    draw = random.Random(3)
    texts: dict[str, dict[str, list[str]]] = {"input0": {}, "input1": {}, "label": {}}
    for split, count in (("train", train), ("valid", valid)):
        firsts = [draw.choices(WORDS, k=draw.randint(2, 9)) for _ in range(count)]
        texts["input0"][split] = [" ".join(words) for words in firsts]
        texts["input1"][split] = [" ".join(draw.choices(WORDS, k=draw.randint(1, 5))) for _ in range(count)]
        numbers = [WORDS.index(words[0]) for words in firsts]
        names = classes or ("0",)
        texts["label"][split] = (
            [names[number % len(names)] for number in numbers] if classes else [str(n / 16) for n in numbers]
        )
    column(folder / "input0", texts["input0"], words)
    column(folder / "input1", texts["input1"], words)
    if classes:
        column(folder / "label", texts["label"], labels)
    else:
        (folder / "label").mkdir()
        for split, lines in texts["label"].items():
            (folder / "label" / f"{split}.label").write_text("".join(f"{line}\n" for line in lines))
    return folder


def config(data: Path, *words: object, model: list[str] = ROBERTA) -> Any:
    fixed = [
        *(str(data), "--task", "sentence_prediction_rdrop", "--init-token", "0", "--separator-token", "2", "--cpu"),
        *("--max-positions", "32", "--required-batch-size-multiple", "1", "--num-classes", "2"),
    ]
    return parsed([*fixed, *common_options(words), *model, *words])


def session(data: Path, *words: object, model: list[str] = ROBERTA) -> Session:
    """Everything fairseq-train builds before the first update; the model is in training mode."""
    return start(config(data, *words, model=model), ("train", "valid"))


def write_roberta(mirror: Path, data: Path) -> None:
    """roberta.large.tar.gz in `mirror`, beside dict.txt, as published but of one layer, for the vocabulary of
    `data`."""
    args = Namespace(arch="roberta_large", task="masked_lm", data="/elsewhere", tokens_per_sample=64)
    model = write_published(_published_names(data), args, mirror / "roberta.pt").read_bytes()
    dictionary = (mirror / "dict.txt").read_bytes()
    inside = {"roberta.large/model.pt": model, "roberta.large/dict.txt": dictionary, "roberta.large/NOTE": b"note\n"}
    small_corpora.pack(mirror / "roberta.large.tar.gz", inside)


def _published_names(data: Path) -> dict[str, torch.Tensor]:
    """Weights under the names that RoBERTa was published with: no heads, decoder in place of encoder, queries, keys
    and values in one matrix."""
    sizes = ["--encoder-layers", "1", "--encoder-ffn-embed-dim", "16", "--max-positions", "64"]
    state = session(data, *RDROP, *sizes).model.state_dict()
    attention = "encoder.sentence_encoder.layers.0.self_attn"
    for kind in ("weight", "bias"):
        parts = [state.pop(f"{attention}.{part}_proj.{kind}") for part in "qkv"]
        state[f"{attention}.in_proj_{kind}"] = torch.cat(parts)
    return {
        name.replace("encoder.", "decoder.", 1).replace(".layernorm_embedding.", ".emb_layer_norm."): value
        for name, value in state.items()
        if not name.startswith("classification_heads.")
    }
