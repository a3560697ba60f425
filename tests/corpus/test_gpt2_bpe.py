"""The same ids as fairseq's own GPT-2 encoder, on text that is meant to break it."""

from __future__ import annotations

import json
import pickle
import random
from pathlib import Path

import pytest
from fairseq.data.encoders.gpt2_bpe_utils import Encoder, get_encoder

from rdrop_fairseq.corpus.gpt2_bpe import Gpt2Bpe
from rdrop_fairseq.errors import UserError

NASTY = [
    "",
    " ",
    "  two  blanks \t tab\u00a0no-break\u3000wide",
    "don't can'T we'll I'M they'Ve 'tis ''s",
    "naïve café e\u0301 İstanbul ǅ ß",
    "日本語テキスト 中文 한국어 עברית العربية हिन्दी",
    "🎉👩‍👩‍👧 \U0001f1e9\U0001f1ea a\u200bb\ufeffc",
    "x\x00y\x1cz\x85w\u2028v\ufffd",
    "1234567890 ½ ² ٣ 3.14 1,000",
    "<|endoftext|> <s> </s> <mask> <unk>",
    "...!!! ??? --- ___ ```` http://a.b/c?d=e&f#g",
    "a" * 500,
    " \n",
]


@pytest.fixture(scope="module")
def pair(gpt2_files: Path) -> tuple[Gpt2Bpe, Encoder]:
    names = gpt2_files / "encoder.json", gpt2_files / "vocab.bpe"
    return Gpt2Bpe(*names), get_encoder(*map(str, names))


@pytest.mark.parametrize("text", NASTY)
def test_nasty_text(pair: tuple[Gpt2Bpe, Encoder], text: str) -> None:
    ours, fairseq = pair
    assert ours.encode(text) == fairseq.encode(text)
    assert ours.decode(ours.encode(text)) == text


def test_random_text(pair: tuple[Gpt2Bpe, Encoder], gpt2_files: Path) -> None:
    ours, fairseq = pair
    symbols = [text for symbol in fairseq.encoder if (text := fairseq.decode([fairseq.encoder[symbol]])).isprintable()]
    choose = random.Random(5)
    for _ in range(3000):
        text = "".join(choose.choices(symbols, k=choose.randint(1, 8)))
        assert ours.encode(text) == fairseq.encode(text), text
    for code in [*range(0x3000), *range(0xFE00, 0x10000), *range(0x1F300, 0x1F700)]:
        text = f"a{chr(code)}b {chr(code)}{chr(code)} 1{chr(code)}"
        assert ours.encode(text) == fairseq.encode(text), hex(code)


def test_merges_are_used(pair: tuple[Gpt2Bpe, Encoder]) -> None:
    assert len(pair[0].encode("People in Rome saw it")) < len("People in Rome saw it") / 2


def test_line_is_stripped_and_decimal(pair: tuple[Gpt2Bpe, Encoder]) -> None:
    ours, fairseq = pair
    assert ours.encode_line("  It was \n") == " ".join(map(str, fairseq.encode("It was")))
    assert ours.encode_line("  \n") == ""
    assert ours.decode_line("<mask> " + ours.encode_line("It was") + " <unk> 99999") == "It was"


def test_cut_inside_a_character(pair: tuple[Gpt2Bpe, Encoder]) -> None:
    ours, fairseq = pair
    ids = ours.encode("🎉")[:-1]
    assert ours.decode(ids) == fairseq.decode(ids) == "\ufffd"


def test_travels_to_a_worker(pair: tuple[Gpt2Bpe, Encoder]) -> None:
    assert pickle.loads(pickle.dumps(pair[0])).encode("It was") == pair[0].encode("It was")


def test_files_that_do_not_belong_together(gpt2_files: Path, tmp_path: Path) -> None:
    encoder = json.loads((gpt2_files / "encoder.json").read_text())
    encoder.pop(next(symbol for symbol in encoder if len(symbol) > 2))
    (tmp_path / "encoder.json").write_text(json.dumps(encoder))
    with pytest.raises(UserError, match="lacks some of its symbols"):
        Gpt2Bpe(tmp_path / "encoder.json", gpt2_files / "vocab.bpe")


@pytest.mark.parametrize("content", ["<html>404</html>", "a b c\n", "\u2603 a\n"])
def test_wrong_merges(gpt2_files: Path, tmp_path: Path, content: str) -> None:
    (tmp_path / "vocab.bpe").write_text(content, encoding="utf-8")
    with pytest.raises(UserError, match=r"vocab\.bpe is not a list of GPT-2 merges"):
        Gpt2Bpe(gpt2_files / "encoder.json", tmp_path / "vocab.bpe")


def test_missing_file(gpt2_files: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="fetch both again"):
        Gpt2Bpe(gpt2_files / "encoder.json", tmp_path / "none")
