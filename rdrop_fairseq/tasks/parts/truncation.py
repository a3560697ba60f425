"""Truncates articles that are longer than the encoder reads, keeping the end of sentence and correct sizes."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from fairseq.data import BaseWrapperDataset
from torch import Tensor


def truncate(tokens: Tensor, length: int, eos: int) -> Tensor:
    """The first `length` tokens: [n] -> [min(n, length)]. A cut-off end of sentence replaces the last token."""
    if tokens.numel() <= length:
        return tokens
    if tokens[-1] != eos:
        return tokens[:length]
    return torch.cat([tokens[: length - 1], tokens[-1:]])


class TruncatedDataset(BaseWrapperDataset):
    """`truncate` over a dataset of token tensors.

    fairseq's --truncate-source strips and appends the end of sentence in separate wrappers and counts it twice in
    `sizes`, so batches by --max-tokens come out smaller than asked for; here `sizes` are the lengths of the items.
    """

    def __init__(self, dataset: Any, length: int, eos: int) -> None:
        super().__init__(dataset)
        self.length, self.eos = length, eos
        self._sizes = np.minimum(dataset.sizes, length)

    def __getitem__(self, index: int) -> Tensor:
        return truncate(self.dataset[index], self.length, self.eos)

    @property
    def sizes(self) -> np.ndarray:
        return self._sizes

    def num_tokens(self, index: int) -> int:
        return int(self._sizes[index])

    def size(self, index: int) -> int:
        return int(self._sizes[index])
