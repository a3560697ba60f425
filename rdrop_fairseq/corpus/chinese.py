"""Chinese, for which Moses has no tokenizer: one token per character, or per word as jieba finds them."""

from __future__ import annotations

import re

from rdrop_fairseq.corpus import moses
from rdrop_fairseq.errors import UserError, install

# CJK punctuation, kana, ideographs (all planes), compatibility ideographs, half- and full-width forms.
WIDE = re.compile("([\u3000-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff00-\uffef\U00020000-\U0003ffff])")


class Tokenizer:
    """line -> tokens: each Chinese character or mark by itself, the text between them as in English."""

    def __init__(self) -> None:
        self._rest = moses.Tokenizer("en")

    def __call__(self, line: str) -> str:
        return self._rest(WIDE.sub(r" \1 ", line))


class Words:
    """line -> words as jieba.cut finds them. Raises UserError where jieba is not installed."""

    def __init__(self) -> None:
        try:
            import jieba
        except ImportError as error:
            raise UserError(f"Chinese words need jieba, which is not installed: {install('chinese')}") from error
        jieba.setLogLevel("WARNING")  # it tells stderr of its dictionary
        self._cut = jieba.cut

    def __reduce__(self) -> tuple[object, ...]:
        """Worker processes load the dictionary for themselves."""
        return Words, ()

    def __call__(self, line: str) -> str:
        return " ".join(word for word in self._cut(line.strip()) if not word.isspace())
