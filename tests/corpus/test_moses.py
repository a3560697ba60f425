"""corpus/moses against the output of the Moses Perl scripts, and its fast way against its rules."""

from __future__ import annotations

import json
import pickle
import random
from pathlib import Path

import pytest

from rdrop_fairseq.corpus.filters import tokenize
from rdrop_fairseq.corpus.moses import Detokenizer, Normalizer, Tokenizer, languages, prefixes, rules, tokenizer

GOLDEN = Path(__file__).parent / "golden"
GOLDEN_LANGUAGES = sorted(path.name.split(".")[1] for path in GOLDEN.glob("moses.*.json"))
# All 1,520 lines per language, where the project's shared folder stands beside the checkout.
SHARED = Path(__file__).parents[3] / "shared" / "golden" / "moses"
MODES = {
    "tok": {},
    "tok-a": {"aggressive": True},
    "norm-tok-a": {"aggressive": True, "normalize": True},
    "tok-lower": {"lower": True},
}

# Pieces at which a rule does something, or might be thought to.
PIECES = [
    *" " * 12, *"....,,,''''\"()[]<>&|:;!?%-–—_@#*`´‘’‚„“”…«»\xa0\xa0\t\r\x0b\x0c\x1c\x85\u2028\u3000\u200b\u00ad\x01",
    *"abzABZ019sSnéÉßİıΣσς²½٣५中あ한ªº·Âाँ\u0301€Ⅳ😀ﬁ", "Dr.", "usw.", "z.B.", "No.", "nr.", "p.", "e.g.", "...", "....",
    "x’y", "U.S.", "'s", "1990's", "l'", "d'a", "EU:n", "il·lusio", "5,300", "a,b,c", "1,", "nº\xa0", "\xa0ºC", '."',
    '," ', "@-@", "&amp;", "1\xa0000", "ст.", "foo-bar", "\xa0«\xa0", " word ", " Word ", " 12 ", "' '", ".' ", " '",
]  # fmt: skip


def golden(lang: str) -> list[dict[str, str]]:
    if not (SHARED / f"raw.{lang}").is_file():
        return list(json.loads((GOLDEN / f"moses.{lang}.json").read_text(encoding="utf-8")))
    columns = {mode: (SHARED / f"{mode}.{lang}").read_bytes().decode().split("\n")[:-1] for mode in ("raw", *MODES)}
    return [dict(zip(columns, row)) for row in zip(*columns.values())]


def nasty_lines(seed: str, number: int) -> list[str]:
    rnd = random.Random(seed)
    return ["".join(rnd.choices(PIECES, k=rnd.choice([1, 2, 3, 5, 8, 13, 20]))) for _ in range(number)]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("lang", GOLDEN_LANGUAGES)
def test_golden_lines_come_out_as_from_the_scripts(lang: str, mode: str) -> None:
    step = tokenize(lang, **MODES[mode])
    different = [(row["raw"], step(row["raw"]), row[mode]) for row in golden(lang) if step(row["raw"]) != row[mode]]
    assert different == []


@pytest.mark.parametrize("lang", ["en", "de", "fr", "fi", "ca", "so", "tdt"])
def test_fast_way_equals_the_rules_on_nasty_lines(lang: str) -> None:
    for aggressive, escape in ((False, True), (True, True), (True, False)):
        fast = Tokenizer(lang, aggressive, escape)
        for line in nasty_lines(lang, 600):
            assert fast(line) == rules.tokenize(line, lang, aggressive, escape), repr(line)


def test_fast_way_equals_the_rules_when_the_memory_is_full(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokenizer, "REMEMBERED", 5)
    fast = Tokenizer("en", aggressive=True)
    for line in nasty_lines("small", 400):
        assert fast(line) == rules.tokenize(line, "en", True), repr(line)


def test_memory_stays_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokenizer, "REMEMBERED", 50)
    fast = Tokenizer("de")
    for number in range(500):
        fast(f"w{number} {'x' * (tokenizer.LONGEST + 1)}{number}. Ende{number}.")
    assert len(fast._before_other) <= 50
    assert len(fast._at_end) <= 50
    assert all(len(word) <= tokenizer.LONGEST for word in fast._before_other)


@pytest.mark.parametrize(
    ("line", "tokens"),
    [
        ("", ""),
        ("  \t ", "  \t "),  # the script prints a line of white space as it is
        ("\x01\x02", ""),
        ("usw.", "usw ."),  # split at the end of the line, even a non-breaking prefix
        ("usw. Und", "usw. Und"),
        ("Haus. und", "Haus. und"),
        ("Haus. Und", "Haus . Und"),
        ("5,300 a,b 7,", "5,300 a , b 7 ,"),
        (",5", ",5"),  # nothing before the comma, so the first comma rule does not see it
        ("x ,5", "x , 5"),
        ("a.... b..", "a .... b .."),
        ("a\u2028b\x85c\x1cd", "a b cd"),
    ],
)
def test_rules_on_small_lines(line: str, tokens: str) -> None:
    assert Tokenizer("de")(line) == rules.tokenize(line, "de") == tokens


@pytest.mark.parametrize(
    ("line", "tokens"),
    [
        ("don't John's 1990's", "don &apos;t John &apos;s 1990 &apos;s"),
        ("No. 5 No. A", "No. 5 No . A"),  # a prefix before numbers only
        ("'quoted' boys' toys", "&apos;quoted &apos; boys &apos; toys"),
        ("5' '5 x", "5 &apos; &apos;5 x"),  # the first match takes the space that the second needs
        ("end.'", "end . &apos; "),  # the script leaves this space
    ],
)
def test_english_lines(line: str, tokens: str) -> None:
    assert Tokenizer("en")(line) == rules.tokenize(line, "en") == tokens


def test_options_survive_the_way_to_a_worker() -> None:
    there = pickle.loads(pickle.dumps(Tokenizer("fr", aggressive=True, escape=False)))
    assert there("l'été-là & co") == "l' été @-@ là & co"


def test_a_long_run_of_dots_takes_no_time() -> None:
    assert Tokenizer("en")("a" + "." * 200_000) == "a " + "." * 200_000


def test_prefixes_keep_the_files_own_white_space() -> None:
    always, numeric = prefixes.load("es")
    assert "Fil " in always  # with a space after it in the list, so that it never matches, as in Perl
    assert "Fil" not in always
    assert "No" in prefixes.load("en")[1]
    assert prefixes.load("xx") == prefixes.load("en")
    assert {"de", "en", "fr", "it", "nl", "zh"} <= set(languages())
    assert not numeric


@pytest.mark.parametrize(
    ("lang", "line", "expected"),
    [
        ("en", 'He said "yes", ok.', 'He said "yes," ok.'),
        ("de", 'Er sagte "ja," gut.', 'Er sagte "ja", gut.'),
        ("de", 'Er sagte "ja."', 'Er sagte "ja".'),  # the script sees the \n behind the quote
        ("de", 'x."<b>', 'x."<b>'),
        ("cs", '"ano," x."', '"ano," x."'),
        ("fr", "12\xa0000 «\xa0oui\xa0» x\xa0!", '12,000 "oui" x!'),
        ("en", "12\xa0000", "12.000"),
        ("en", "a ( b ) . 5 % x : ‘q’ ‚r’", "a (b). 5% x: 'q\" 'r\""),
        ("en", "a\r", "a"),
    ],
)
def test_normalizer_on_small_lines(lang: str, line: str, expected: str) -> None:
    assert Normalizer(lang)(line) == expected


def test_detokenizer_does_as_the_script() -> None:
    rows = json.loads((GOLDEN / "detokenized.json").read_text(encoding="utf-8"))
    assert len(rows) == 200
    for lang, line, text in rows:
        assert Detokenizer(lang)(line) == text, (lang, line)


def test_detokenizer_undoes_the_tokenizer() -> None:
    sentence = 'Mr. Smith\'s "state-of-the-art" cat (aged 5) costs $3,000 & more.'
    assert Detokenizer("en")(Tokenizer("en", aggressive=True)(sentence)) == sentence
