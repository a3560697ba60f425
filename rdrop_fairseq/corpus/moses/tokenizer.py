"""tokenizer.perl's output, several times as fast as its rules, because the tokens of a word are remembered.

Nearly all rules look at a character and its neighbours, so that the text between two spaces has the same tokens
wherever it occurs. The rest of the line matters in these cases only, each of which is handled here:

- a period at the end of a word: the rule looks at the first character of the next word (lowercase, digit, or other), or
  splits it off at the end of the line. So there is one memory for each of the four.
- a comma or apostrophe as the first character of a line, and an apostrophe as the last: the rules want a character on
  the other side, and the line has none.
- two apostrophes with one space between them: a match uses up the space, and the second finds none.

Lines of the last two kinds (0 to 3 % of message catalogs) go through `rules`; and what a word becomes is worked out by
the same rules, on a line that has only this word and a neighbour.
"""

from __future__ import annotations

import re
from typing import Callable

from rdrop_fairseq.corpus.moses import rules
from rdrop_fairseq.corpus.moses.characters import ALNUM, BLANK

# Words remembered per memory: about 200 bytes each, so at most 26 MB. A full memory is emptied, since frequent words
# come back first; a policy that keeps them would cost more on every word than it saves.
REMEMBERED = 1 << 17
# Longer ones (URLs, base64) do not recur, and would make the memory's size unpredictable.
LONGEST = 64


# No rule touches these.
_PLAIN = re.compile(f"[{ALNUM}]+")


class _Memory(dict[str, str]):
    """word -> its tokens, made on first use by `tokenize` from the word between "x" and `after`."""

    def __init__(self, tokenize: Callable[[str], str], after: str) -> None:
        super().__init__()
        self._tokenize, self._after = tokenize, after
        self._split_off = ",;?!)" if after else ".,;?!)"

    def __missing__(self, word: str) -> str:
        tokens = self._work_out(word)
        if len(word) <= LONGEST:
            if len(self) >= REMEMBERED:
                self.clear()
            self[word] = tokens
        return tokens

    def _work_out(self, word: str) -> str:
        """By the rules, except for the two most common kinds of words, whose tokens are obvious: ten times as fast."""
        if _PLAIN.fullmatch(word):
            return word
        if word[-1] in self._split_off and _PLAIN.fullmatch(word[:-1]):
            return f"{word[:-1]} {word[-1]}"
        tokens = self._tokenize("x " + word + self._after)
        return tokens[2 : len(tokens) - len(self._after)]


class Tokenizer:
    """`tokenizer.perl -l lang`, with `-a` if aggressive, `-no-escape` if not escape, for a line without its newline."""

    def __init__(self, lang: str, aggressive: bool = False, escape: bool = True) -> None:
        self._options = (lang, aggressive, escape)
        self._by_rules = rules.tokenizer(lang, aggressive, escape)
        self._before_other = _Memory(self._by_rules, " X")
        self._before_lower = _Memory(self._by_rules, " x")
        self._before_digit = _Memory(self._by_rules, " 0")
        self._at_end = _Memory(self._by_rules, "")
        self._apostrophe_alone = rules.apostrophe_stands_alone(lang)

    def __reduce__(self) -> tuple[object, ...]:
        """Worker processes get the options and remember for themselves."""
        return Tokenizer, self._options

    def __call__(self, line: str) -> str:
        """The tokens of the line, joined by spaces. A line of white space only is returned unchanged."""
        if not line.isprintable():
            if BLANK.fullmatch(line):
                return line
            line = rules.squeeze(line)
        words = line.split()
        if not words:
            return line
        if words[0][0] == "," or (not self._apostrophe_alone and "'" in line and self._apostrophe_needs_line(words)):
            return self._by_rules(" ".join(words))
        last = words.pop()
        if ". " in line:
            return " ".join([*self._with_neighbours(words, last), self._at_end[last]])
        before_other = self._before_other
        tokens = [before_other[word] for word in words]
        tokens.append(self._at_end[last])
        return " ".join(tokens)

    @staticmethod
    def _apostrophe_needs_line(words: list[str]) -> bool:
        if words[0][0] == "'" or words[-1][-1] == "'":
            return True
        return any(word[-1] == "'" == following[0] for word, following in zip(words, words[1:]))

    def _with_neighbours(self, words: list[str], last: str) -> list[str]:
        tokens = []
        before_other = self._before_other
        for word, following in zip(words, [*words[1:], last]):
            if word[-1] != ".":
                tokens.append(before_other[word])
            elif following[0].islower():
                tokens.append(self._before_lower[word])
            elif following[0] in rules.DIGITS:
                tokens.append(self._before_digit[word])
            else:
                tokens.append(before_other[word])
        return tokens
