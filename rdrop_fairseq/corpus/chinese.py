"""Chinese, for which Moses has no tokenizer: one token per character."""

from __future__ import annotations

import re

from rdrop_fairseq.corpus import moses

# CJK punctuation, kana, ideographs (all planes), compatibility ideographs, half- and full-width forms.
WIDE = re.compile("([\u3000-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff00-\uffef\U00020000-\U0003ffff])")


class Tokenizer:
    """line -> tokens: each Chinese character or mark by itself, the text between them as in English."""

    def __init__(self) -> None:
        self._rest = moses.Tokenizer("en")

    def __call__(self, line: str) -> str:
        return self._rest(WIDE.sub(r" \1 ", line))
