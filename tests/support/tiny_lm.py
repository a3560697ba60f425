"""Decoder-only models of fairseq with 16 dimensions, and a batch of blocks for them."""

from __future__ import annotations

from dataclasses import fields
from types import SimpleNamespace
from typing import Any

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


def make_lm_task() -> Any:
    dictionary = make_dictionary(WORDS)
    return SimpleNamespace(
        source_dictionary=dictionary, target_dictionary=dictionary, targets=["future"], hands_over_num_updates=True
    )


def make_lm(name: str = "untied", **options: Any) -> nn.Module:
    """One of MODELS, with further options as on the command line."""
    sizes = {"tokens_per_sample": 16, "max_target_positions": 16, "decoder_layers": 2, "decoder_attention_heads": 2}
    width = {f"decoder_{name}": 16 for name in ("embed_dim", "ffn_embed_dim", "input_dim", "output_dim")}
    defaults = {field.name: field.default for field in fields(TransformerLanguageModelConfig)}
    chosen = {**sizes, **width, **MODELS[name], **options}
    return make_model("transformer_lm", make_lm_task(), **{**defaults, **chosen})


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
