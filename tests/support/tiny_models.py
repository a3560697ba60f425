"""Encoder-decoder models of fairseq with 16 dimensions on made-up dictionaries, and a batch for them."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, Optional

import torch
from fairseq.data import Dictionary
from fairseq.models import ARCH_CONFIG_REGISTRY, ARCH_MODEL_REGISTRY
from torch import Tensor, nn

BOS, PAD, EOS, UNK = 0, 1, 2, 3
WORDS = 23
SIZES = {
    **dict.fromkeys(("encoder_embed_dim", "decoder_embed_dim", "encoder_ffn_embed_dim", "decoder_ffn_embed_dim"), 16),
    **{"encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 2, "decoder_attention_heads": 2},
    **{"max_source_positions": 64, "max_target_positions": 64, "dropout": 0.1, "encoder_hidden_size": 16},
    **{"decoder_hidden_size": 16, "decoder_out_embed_dim": 16},
}


def make_dictionary(words: int = WORDS) -> Dictionary:
    dictionary = Dictionary()
    for number in range(words):
        dictionary.add_symbol(f"w{number}")
    return dictionary


def make_task(joined: bool = True) -> Any:
    source = make_dictionary()
    return SimpleNamespace(
        source_dictionary=source,
        target_dictionary=source if joined else make_dictionary(WORDS + 4),
        hands_over_num_updates=True,
    )


def make_model(arch: str = "transformer", task: Any = None, seed: int = 1, **options: Any) -> nn.Module:
    """A model of this architecture; `options` as on the command line, with underscores."""
    args = Namespace(**{**SIZES, "arch": arch, "criterion": "", **options})
    ARCH_CONFIG_REGISTRY[arch](args)
    torch.manual_seed(seed)
    return ARCH_MODEL_REGISTRY[arch].build_model(args, task or make_task()).train()


def make_sample(lengths: Optional[Sequence[int]] = None, seed: int = 1) -> dict[str, Any]:
    """A batch as fairseq's translation task makes it: sources padded on the left, targets on the right."""
    lengths = lengths or (9, 8, 7)
    sentences, length = len(lengths), max(lengths)
    draw = torch.Generator().manual_seed(seed)

    def text(count: int) -> Tensor:
        return torch.randint(4, 4 + WORDS, (count,), generator=draw)

    source = torch.full((sentences, length), PAD)
    target = torch.full((sentences, length), PAD)
    previous = torch.full((sentences, length), PAD)
    for row, n in enumerate(lengths):
        source[row, length - n :] = torch.cat([text(n - 1), torch.tensor([EOS])])
        words = text(n - 1)
        target[row, :n] = torch.cat([words, torch.tensor([EOS])])
        previous[row, :n] = torch.cat([torch.tensor([EOS]), words])
    return {
        "net_input": {"src_tokens": source, "src_lengths": torch.tensor(lengths), "prev_output_tokens": previous},
        "target": target,
        "ntokens": int(target.ne(PAD).sum()),
        "nsentences": sentences,
    }


def without_randomness(model: nn.Module) -> nn.Module:
    """The model in train mode with every dropout rate 0."""
    for module in model.modules():
        for name in ("p", "dropout"):
            if isinstance(getattr(module, name, None), float):
                setattr(module, name, 0.0)
    return model
