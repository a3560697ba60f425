"""What the Moses scripts make of a line: normalize, remove non-printing, tokenize, lowercase, detokenize. No Perl."""

from rdrop_fairseq.corpus.moses.detokenizer import Detokenizer
from rdrop_fairseq.corpus.moses.normalizer import (
    Normalizer,
    lowercase,
    remove_nonprinting,
    replace_unicode_punctuation,
)
from rdrop_fairseq.corpus.moses.prefixes import languages
from rdrop_fairseq.corpus.moses.tokenizer import Tokenizer

__all__ = [
    "Detokenizer",
    "Normalizer",
    "Tokenizer",
    "languages",
    "lowercase",
    "remove_nonprinting",
    "replace_unicode_punctuation",
]
