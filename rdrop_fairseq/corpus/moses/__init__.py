"""The text that the Moses scripts make (normalize, remove non-printing, tokenize, lowercase, detokenize), without Perl."""

from rdrop_fairseq.corpus.moses.normalizer import Normalizer, lowercase, remove_nonprinting
from rdrop_fairseq.corpus.moses.prefixes import LANGUAGES
from rdrop_fairseq.corpus.moses.tokenizer import Tokenizer

__all__ = ["LANGUAGES", "Normalizer", "Tokenizer", "lowercase", "remove_nonprinting"]
