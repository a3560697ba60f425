"""The preset bert-nmt of `prepare iwslt`, against its recipe in shell, by hand, and on miniature archives."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import fairseq
import jieba
import pytest
import small_corpora

from rdrop_fairseq.corpus import iwslt, iwslt_talks, lines, moses
from rdrop_fairseq.errors import UserError
from rdrop_fairseq.scoring.text import read_reference

pytestmark = pytest.mark.usefixtures("warm")

DROPPED = "<url>|<speaker>|<reviewer|<translator|<doc docid|</doc>|<talkid>|<keywords>"
PERL = Path(fairseq.__file__).parent / "examples" / "wmt21" / "scripts" / "replace-unicode-punctuation.perl"


def prepare(data: Path, *words: str) -> Path:
    iwslt.main(["--data", str(data), "--bpe-operations", "60", "--workers", "1", *words], prog="prepare iwslt")
    [folder] = data.glob("iwslt*")
    return folder


def shell(command: str, *inputs: Path) -> list[str]:
    environment = {"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8"}
    done = subprocess.run(["bash", "-c", command, "bash", *inputs], stdout=subprocess.PIPE, env=environment, check=True)
    return done.stdout.decode().split("\n")[:-1]


def tokens(line: str, language: str) -> str:
    """The recipe's tools for one line; those of Moses are held to the Perl scripts elsewhere."""
    if language == "zh":
        return " ".join(" ".join(jieba.cut(moses.remove_nonprinting(line).strip())).split())
    plain = moses.remove_nonprinting(moses.Normalizer(language)(moses.replace_unicode_punctuation(line)))
    return moses.Tokenizer(language, escape=False)(plain)


@pytest.mark.usefixtures("without_fairseq")
@pytest.mark.parametrize("language", ["fr", "zh", "es"])
def test_the_text_is_that_of_the_recipe(mirror: Path, tmp_path: Path, language: str) -> None:
    small_corpora.talk_archives(mirror, language)
    folder = prepare(tmp_path / "data", "en", language)
    year, test = ("14", "tst2014") if language == "es" else ("17", "tst2017")
    assert folder.name == f"iwslt{year}.{language}-en"
    for side in ("en", language):
        train = next(folder.glob(f"orig/*/en-{language}/train.tags.en-{language}.{side}"))
        strip = "sed -E 's#</?(title|description)>##g'"
        kept = [tokens(line, side) for line in shell(f'grep -vE "{DROPPED}" "$1" | {strip}', train)]
        assert [" ".join(line.split()) for line in lines_of(folder / "tmp" / f"train.{side}")] == [
            " ".join(line.split()) for line in kept
        ]
        apostrophe = "" if side == "zh" else "-e \"s/’/'/g\""
        plain = "grep -h '<seg id' \"$@\" | sed -e 's/<seg id=\"[0-9]*\">\\s*//g; s/\\s*<\\/seg>\\s*//g' "
        other = language if side == "en" else "en"
        names = {
            "valid": sorted(folder.glob(f"orig/*/en-{language}/*.TED.tst20*.en-{language}.{side}.xml")),
            "test": [next(folder.glob(f"orig/*/{side}-{other}/*.TED.{test}.{side}-{other}.{side}.xml"))],
        }
        names["valid"] = [path for path in names["valid"] if "test" not in path.parts[-3]]
        assert len(names["valid"]) == 3
        for split, paths in names.items():
            expected = [tokens(line, side) for line in shell(plain + apostrophe, *paths)]
            assert lines_of(folder / "tmp" / f"{split}.{side}") == expected
        assert lines_of(folder / f"test.plain.{side}") == shell(plain, *names["test"])
        assert read_reference(folder / f"test.plain.{side}")[-1] == "It’s “so” &amp; on"
    cased = "".join(lines_of(folder / "tmp" / "train.en"))
    assert cased != cased.lower()
    assert "&amp;" not in "".join(lines_of(folder / "tmp" / "train.en"))


def lines_of(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").split("\n")[:-1]


@pytest.mark.parametrize("language", ["fr", "zh"])
def test_one_vocabulary_for_both_but_with_chinese(mirror: Path, tmp_path: Path, language: str) -> None:
    small_corpora.talk_archives(mirror, language)
    folder = prepare(tmp_path / "data", language, "en")
    codes = sorted(path.name for path in folder.glob("code*"))
    assert codes == (["code"] if language == "fr" else ["code.en", "code.zh"])
    sides = [(folder / "bin" / f"dict.{side}.txt").read_bytes() for side in ("en", language)]
    assert (sides[0] == sides[1]) is (language == "fr")
    found = json.loads((folder / "manifest.json").read_text())
    assert found["name"] == f"IWSLT17 {language}-en"
    assert len(found["inputs"]) == 3
    assert found["sentence_pairs"]["valid"] == 15
    assert found["sentence_pairs"]["test"] == 11


@pytest.mark.usefixtures("without_fairseq")
def test_any_number_of_workers_gives_the_same_bytes(
    mirror: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_corpora.talk_archives(mirror, "zh")
    monkeypatch.setattr(lines, "CHUNK_BYTES", 300)
    names = ("train.zh", "train.en", "code.zh", "test.zh", "test.plain.en")
    one, three = (prepare(tmp_path / workers, "zh", "en", "--workers", workers) for workers in ("1", "3"))
    assert [(one / name).read_bytes() for name in names] == [(three / name).read_bytes() for name in names]


def test_the_marks_are_those_of_the_perl_script() -> None:
    """Every character up to U+FFFF with a space after it, but newlines and surrogates."""
    every = [f"{chr(code)}  x{chr(code)}" for code in range(32, 0x10000) if not 0xD800 <= code < 0xE000]
    done = subprocess.run(["perl", str(PERL)], input="\n".join(every).encode() + b"\n", capture_output=True, check=True)
    assert [moses.replace_unicode_punctuation(line) for line in every] == done.stdout.decode().split("\n")[:-1]


def test_a_member_that_is_not_there_is_named(mirror: Path, tmp_path: Path) -> None:
    small_corpora.talk_archives(mirror, "fr")
    test = mirror / iwslt_talks.TALKS["fr"].tests[1].path
    small_corpora.pack(test, {"fr-en/README": b""})
    with pytest.raises(UserError, match=r"2017-01-ted-test\.fr-en has no fr-en/IWSLT17\.TED\.tst2017\.fr-en\.fr\.xml"):
        prepare(tmp_path / "data", "fr", "en")


def test_german_has_one_preset(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="the preset bert-nmt has no de-en: leave --preset out"):
        prepare(tmp_path / "data", "--preset", "bert-nmt")


@pytest.mark.usefixtures("without_fairseq")
def test_spanish_has_no_address_and_the_note_says_where_the_files_are(
    mirror: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(UserError, match=r"2014-01\.en-es\.tgz"):
        prepare(tmp_path / "data", "es", "en")
    assert "texts/en/es/en-es.tgz in release 2014-01, which" in capsys.readouterr().err
    small_corpora.talk_archives(tmp_path / "copies", "es")
    for archive in iwslt_talks.TALKS["es"].archives:
        kept = tmp_path / "data" / archive.kept
        kept.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(tmp_path / "copies" / archive.path, kept)
    assert (prepare(tmp_path / "data", "es", "en") / "test.es").is_file()
    assert "no address" not in capsys.readouterr().err
