"""Decoder-only models of fairseq with 16 dimensions, and a batch of blocks for them."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import tiny_fairseq
import torch
from fairseq.models.transformer_lm import TransformerLanguageModelConfig
from tiny_models import EOS, PAD, make_dictionary, make_model
from torch import nn

WORDS = 36  # and four specials: 40 entries
ADAPTIVE = {"criterion": "adaptive_loss", "adaptive_softmax_cutoff": "10,24", "adaptive_softmax_factor": 2.0}
INPUTS = {"adaptive_input": True, "adaptive_input_cutoff": "10,24", "adaptive_input_factor": 2.0}
MODELS = {
    "untied": {},
    "tied": {"share_decoder_input_output_embed": True},
    "adaptive": {**ADAPTIVE, "adaptive_softmax_dropout": 0.2},
    "adaptive, tied": {**ADAPTIVE, **INPUTS, "tie_adaptive_weights": True, "tie_adaptive_proj": True},
}


# The same as options of fairseq-train, for the 16 words of tiny_fairseq.
SIZES = ["--arch", "transformer_lm", "--decoder-layers", "2", "--decoder-attention-heads", "2"]
for dimension in ("embed", "ffn-embed", "input", "output"):
    SIZES += [f"--decoder-{dimension}-dim", "16"]
FEATURES = [
    *("--criterion", "label_smoothed_cross_entropy_rdrop", "--label-smoothing", "0"),
    "--share-decoder-input-output-embed",
]
CLUSTERS = [
    *("--criterion", "adaptive_loss_rdrop", "--ddp-backend", "legacy_ddp", "--adaptive-softmax-cutoff", "8,14"),
    *("--adaptive-softmax-factor", "2", "--adaptive-input", "--adaptive-input-cutoff", "8,14"),
    *("--adaptive-input-factor", "2", "--tie-adaptive-weights", "--tie-adaptive-proj"),
]


def write_text(folder: Path) -> Path:
    """Binarized data of a language model: 48 lines of 12 words for training, 8 for validation."""
    folder.mkdir(parents=True, exist_ok=True)
    dictionary, draw = tiny_fairseq.word_dictionary(), random.Random(5)
    dictionary.save(str(folder / "dict.txt"))
    for split, count in (("train", 48), ("valid", 8)):
        lines = [" ".join(draw.choices(tiny_fairseq.WORDS, k=12)) for _ in range(count)]
        tiny_fairseq.write_lines(folder / split, lines, dictionary)
    return folder


def lm_config(data: Path, *words: object) -> Any:
    """A training on `write_text`, one line to a sentence, Adam unless told otherwise."""
    fixed = [
        *(str(data), "--task", "language_modeling_rdrop", "--tokens-per-sample", "13", "--sample-break-mode", "none"),
        *("--cpu", *tiny_fairseq.common_options(words), *SIZES),
    ]
    return tiny_fairseq.parsed([*fixed, *words])


def make_lm_task() -> Any:
    dictionary = make_dictionary(WORDS)
    return SimpleNamespace(
        source_dictionary=dictionary, target_dictionary=dictionary, targets=["future"], hands_over_num_updates=True
    )


def make_lm(name: str = "untied", **further: Any) -> nn.Module:
    """One of MODELS, with further options as on the command line."""
    sizes = {"tokens_per_sample": 16, "max_target_positions": 16, "decoder_layers": 2, "decoder_attention_heads": 2}
    width = {f"decoder_{name}": 16 for name in ("embed_dim", "ffn_embed_dim", "input_dim", "output_dim")}
    defaults = {field.name: field.default for field in fields(TransformerLanguageModelConfig)}
    chosen = {**sizes, **width, **MODELS[name], **further}
    return make_model("transformer_lm", make_lm_task(), **{**defaults, **chosen})


@contextmanager
def views_by_rule(model: nn.Module, source: torch.Tensor) -> Iterator[list[torch.Tensor]]:
    """The next forward, the only one, gets two views that differ: `source`, and words three numbers further on. Yields
    both."""
    sources, calls = [source, torch.where(source.eq(PAD), source, (source - 4 + 3) % WORDS + 4)], []

    def swapped(_: nn.Module, args: Any, kwargs: Any) -> Any:
        calls.append(args)
        return args, {**kwargs, "src_tokens": torch.cat(sources)}

    handle = model.register_forward_pre_hook(swapped, with_kwargs=True)
    try:
        yield sources
    finally:
        handle.remove()
    assert len(calls) == 1


def make_lm_sample(seed: int = 1, avoid: tuple[int, ...] = ()) -> dict[str, Any]:
    """A batch as fairseq's language modelling makes it: each target is the next input; the last block is shorter."""
    draw = torch.Generator().manual_seed(seed)
    allowed = torch.tensor([number for number in range(4, 4 + WORDS) if number not in avoid])
    text = allowed[torch.randint(len(allowed), (3, 10), generator=draw)]
    text[1, 4] = EOS
    source, target = text[:, :-1].clone(), text[:, 1:].clone()
    source[2, 5:], target[2, 5:] = PAD, PAD
    return {
        "net_input": {"src_tokens": source, "src_lengths": torch.tensor([9, 9, 5])},
        "target": target,
        "ntokens": int(target.ne(PAD).sum()),
        "nsentences": 3,
    }
