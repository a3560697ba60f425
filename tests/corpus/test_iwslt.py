from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import small_corpora

from rdrop_fairseq.corpus import bpe, iwslt, lines, moses, parallel, pipeline
from rdrop_fairseq.errors import UserError

TESTS = ("TED.dev2010", "TEDX.dev2012", "TED.tst2010", "TED.tst2011", "TED.tst2012")
STRIP = "; ".join(f"s/{tag}//g" for tag in ("<title>", r"<\/title>", "<description>", r"<\/description>"))


pytestmark = pytest.mark.usefixtures("without_fairseq")


def prepare(data: Path, *words: str) -> Path:
    """The command; returns the folder that it made."""
    iwslt.main(["--data", str(data), "--bpe-operations", "60", "--workers", "1", *words], prog="prepare iwslt")
    [folder] = data.glob("iwslt*")
    return folder


def made(folder: Path) -> dict[str, bytes]:
    """All that is made, without the record of when."""
    files = [path for path in folder.rglob("*") if path.is_file() and path.name != "manifest.json"]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def shell(command: str, *inputs: Path) -> list[str]:
    """Lines from the tools that the published recipe is made of."""
    environment = {"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8"}
    done = subprocess.run(["bash", "-c", command, "bash", *inputs], stdout=subprocess.PIPE, env=environment)
    return done.stdout.decode().split("\n")[:-1]


def original_way(folder: Path, languages: tuple[str, str]) -> dict[str, list[str]]:
    """train, valid and test by grep, sed, awk and Python's plainest words; only the tokenizer is the project's own."""
    name = "-".join(languages)
    sides = []
    for language in languages:
        command = f"grep -v '<url>' \"$1\" | grep -v '<talkid>' | grep -v '<keywords>' | sed -e '{STRIP}'"
        tokenize = moses.Tokenizer(language)
        sides.append([tokenize(line) for line in shell(command, folder / f"train.tags.{name}.{language}")])
    assert len(sides[0]) == len(sides[1])
    kept = []
    for pair in zip(*sides):
        lengths = [len(line.split()) for line in pair]
        if min(lengths) >= 1 and max(lengths) <= 175 and max(lengths) <= 1.5 * min(lengths):
            kept.append([" ".join(line.split()).lower() for line in pair])
    result = {}
    for side, language in enumerate(languages):
        result[f"train.{language}"] = [pair[side] for number, pair in enumerate(kept, 1) if number % 23]
        result[f"valid.{language}"] = [pair[side] for number, pair in enumerate(kept, 1) if not number % 23]
        strip = "grep -h '<seg id' \"$@\" | sed -e 's/<seg id=\"[0-9]*\">\\s*//g; s/\\s*<\\/seg>\\s*//g' -e \"s/’/'/g\""
        tests = [folder / f"IWSLT14.{test}.{name}.{language}.xml" for test in TESTS]
        result[f"test.{language}"] = [moses.Tokenizer(language)(line).lower() for line in shell(strip, *tests)]
    return result


def test_the_text_is_that_of_the_recipe(mirror, tmp_path):
    small_corpora.iwslt_archive(mirror)
    folder = prepare(tmp_path / "data")
    expected = original_way(folder / "orig/de-en", ("de", "en"))
    assert len(expected["valid.de"]) > 4
    assert len(expected["test.de"]) == 25
    for name, text in expected.items():
        assert (folder / "tmp" / name).read_text(encoding="utf-8").split("\n")[:-1] == text


def test_the_bpe_is_that_of_subword_nmt(mirror, tmp_path):
    small_corpora.iwslt_archive(mirror)
    folder = prepare(tmp_path / "data")

    def tool(module, *options, given):
        command = [sys.executable, "-m", f"subword_nmt.{module}", *options]
        environment = {**os.environ, "PYTHONIOENCODING": "utf-8"}
        return subprocess.run(command, input=given, stdout=subprocess.PIPE, check=True, env=environment).stdout

    text = {path.name: path.read_bytes() for path in (folder / "tmp").glob("t*.??")}
    codes = tool("learn_bpe", "-s", "60", given=text["train.de"] + text["train.en"])
    assert (folder / "code").read_bytes() == codes
    (tmp_path / "code").write_bytes(codes)
    for name in ("train.de", "test.en"):
        assert (folder / name).read_bytes() == tool("apply_bpe", "-c", str(tmp_path / "code"), given=text[name])


def test_by_hand(mirror, tmp_path):
    """Every rule once, the expected lines written down by hand."""
    talk = [
        ("<url>http://x</url>", "<url>http://x</url>"),
        ("<title>Ein Titel</title>", "<title>A title</title>"),
        ("<speaker>Al</speaker>", "<speaker>Al</speaker>"),
        ("Nur deutsch.", ""),
        ("Ja, das ist's.", "Yes, that's it."),
        ("Eins zwei drei vier fünf sechs", "One two three"),
    ]
    files = small_corpora.iwslt_files(("de", "en"), 14, TESTS, 0, nasty=[])
    for side, language in enumerate(("de", "en")):
        files[f"de-en/train.tags.de-en.{language}"] = small_corpora.text_file([pair[side] for pair in talk])
        for number, test in enumerate(TESTS):
            name = f"de-en/IWSLT14.{test}.de-en.{language}.xml"
            files[name] = f'<doc>\n<seg id="1"> It’s Test {number}. </seg>\n</doc>\n'.encode()
    small_corpora.pack(mirror / "de-en.tgz", files)
    folder = prepare(tmp_path / "data")
    titles = {"de": "ein titel", "en": "a title"}
    sayings = {"de": "ja , das ist &apos; s .", "en": "yes , that &apos;s it ."}
    its = {"de": "it &apos; s", "en": "it &apos;s"}
    for language in ("de", "en"):
        speaker = "&lt; speaker &gt; al &lt; / speaker &gt;"
        train = f"{titles[language]}\n{speaker}\n{sayings[language]}\n"
        assert (folder / "tmp" / f"train.{language}").read_text() == train
        assert (folder / "tmp" / f"valid.{language}").read_text() == ""
        test = "".join(f"{its[language]} test {number} .\n" for number in range(5))
        assert (folder / "tmp" / f"test.{language}").read_text() == test


def test_the_manifest_says_what_was_done(mirror, tmp_path, capsys):
    small_corpora.iwslt_archive(mirror)
    folder = prepare(tmp_path / "data", "en", "de")
    sides = "--source-lang de --target-lang en --trainpref train --validpref valid --testpref test"
    assert (folder / "bin/command").read_text() == f"{sides} --joined-dictionary"
    found = json.loads((folder / "manifest.json").read_text())
    assert found["name"] == "IWSLT14 de-en"
    assert list(found["inputs"]) == ["de-en.tgz"]
    assert found["inputs"]["de-en.tgz"]["published_at"][0].endswith("/iwslt14/de-en.tgz")
    assert found["options"]["bpe_operations"] == 60
    steps_done = {step["title"]: step["counts"] for step in found["steps"]}
    clean = steps_done["clean and lowercase train"]
    assert clean["read"] == clean["sentences"] + clean["dropped"]
    for language in ("de", "en"):
        kept = (folder / f"tmp/train.tags.de-en.{language}").read_text(encoding="utf-8")
        assert (clean["sentences"], clean["tokens"][language]) == (kept.count("\n"), len(kept.split()))
    assert found["known_counts"]["train"]["known"] == 160_239
    assert found["known_counts"]["train"]["within_1_percent"] is False
    assert "WARNING: IWSLT14 de-en: train has" in capsys.readouterr().err


def test_any_number_of_workers_gives_the_same_bytes(mirror, tmp_path, monkeypatch):
    small_corpora.iwslt_archive(mirror)
    monkeypatch.setattr(lines, "CHUNK_BYTES", 300)
    monkeypatch.setattr(bpe, "TASK_BYTES", 1000)
    one = made(prepare(tmp_path / "one", "--workers", "1"))
    three = made(prepare(tmp_path / "three", "--workers", "3"))
    assert one == three


STEPS = 12  # the download is the first


@pytest.mark.parametrize("when", ["during", "after"])
def test_killed_in_each_step_it_goes_on_to_the_same_result(mirror, tmp_path, monkeypatch, when):
    """kill -9 in one step after the other, while it works, or when its outputs are in place but it is not recorded."""
    small_corpora.iwslt_archive(mirror, count=40)
    whole = made(prepare(tmp_path / "whole"))
    for victim in range(2, STEPS + 1):
        child = os.fork()
        if child == 0:
            monkeypatch.setattr(pipeline.Pipeline, "_do", dying(pipeline.Pipeline._do, when, victim))
            prepare(tmp_path / "again")
            os._exit(0)
        assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
    assert made(prepare(tmp_path / "again")) == whole


def dying(do, when, victim):
    """Pipeline._do that ends the process in step `victim`."""

    def kill(parts):
        os.kill(os.getpid(), signal.SIGKILL)

    def replacement(pipeline, title, key, outputs, run):
        if pipeline.number != victim:
            return do(pipeline, title, key, outputs, run)
        do(pipeline, title, key, outputs, (lambda parts: (run(parts), kill(parts))) if when == "during" else run)
        return kill(outputs)

    return replacement


def test_an_option_redoes_only_what_depends_on_it(mirror, tmp_path, capsys):
    small_corpora.iwslt_archive(mirror)
    prepare(tmp_path / "data")
    capsys.readouterr()
    prepare(tmp_path / "data", "--bpe-operations", "30", "--workers", "2")
    said = re.findall(r"\[\d+\] ([^,\n]*)[^\n]*\n( +done before)?", capsys.readouterr().err)
    redone = [title for title, done_before in said if not done_before]
    assert redone[1:] == ["learn 30 BPE operations", *(f"apply BPE to {x}" for x in parallel.SPLITS), "binarize"]


@pytest.mark.parametrize("pair", [("es", "en"), ("fr", "en"), ("zh", "en")])
def test_other_pairs(mirror, tmp_path, pair):
    small_corpora.iwslt_archive(mirror, pair)
    folder = prepare(tmp_path / "data", *reversed(pair), "--preset", "fairseq")
    assert folder.name.endswith(f".{pair[0]}-en.fairseq")
    lines_of = [(folder / "tmp" / f"test.{x}").read_text(encoding="utf-8").count("\n") for x in pair]
    assert lines_of == ([20, 20] if pair[0] == "es" else [35, 35])
    speakers = "speaker" in (folder / "tmp/train.en").read_text(encoding="utf-8")
    assert speakers is (pair[0] == "es")


def test_chinese_is_cut_into_characters_and_the_manifest_says_so(mirror, tmp_path):
    small_corpora.iwslt_archive(mirror, ("zh", "en"))
    folder = prepare(tmp_path / "data", "en", "zh", "--preset", "fairseq")
    sentence = small_corpora.sentence(10_000, "zh")
    assert (folder / "tmp/test.zh").read_text(encoding="utf-8").split("\n")[0] == " ".join(sentence)
    options = json.loads((folder / "manifest.json").read_text())["options"]
    assert options["tokenizer"] == {"zh": "one token per character", "en": "Moses, -l en"}
    assert options["clean"]["ratio"] == 9


def test_chinese_shares_neither_bpe_nor_dictionary(mirror, tmp_path):
    """Appendix A.1 of the paper: joint for all pairs but En-Zh."""
    small_corpora.iwslt_archive(mirror, ("zh", "en"))
    folder = prepare(tmp_path / "data", "en", "zh", "--preset", "fairseq")
    for language in ("zh", "en"):
        bpe.learn([folder / "tmp" / f"train.{language}"], tmp_path / language, 60)
        assert (folder / f"code.{language}").read_bytes() == (tmp_path / language).read_bytes()
        segment = bpe.Segmenter(tmp_path / language)
        text = (folder / "tmp" / f"test.{language}").read_text(encoding="utf-8").split("\n")
        assert (folder / f"test.{language}").read_text(encoding="utf-8").split("\n") == list(map(segment, text))
    assert not (folder / "code").exists()
    assert "joined" not in (folder / "bin/command").read_text()


@pytest.mark.parametrize(
    ("name", "more", "message"),
    [
        ("train.tags.de-en.de", b"more\n", r"the same number of lines, but .*\.de has \d+ lines, .*\.en has \d+"),
        ("IWSLT14.TED.tst2011.de-en.en.xml", b'<seg id="9">\n', r"tst2011\.de-en\.de\.xml has 5, .*en\.xml has 6"),
        ("train.tags.de-en.en", None, r"de-en\.tgz has no de-en/train\.tags\.de-en\.en"),
        ("IWSLT14.TED.tst2012.de-en.de.xml", None, r"de-en\.tgz has no de-en/IWSLT14\.TED\.tst2012\.de-en\.de\.xml"),
    ],
)
def test_a_misaligned_or_missing_file_is_named(mirror, tmp_path, name, more, message):
    files = small_corpora.iwslt_files(("de", "en"), 14, TESTS, 30)
    changed = files.pop(f"de-en/{name}")
    small_corpora.pack(mirror / "de-en.tgz", {**files, **({f"de-en/{name}": changed + more} if more else {})})
    with pytest.raises(UserError, match=message):
        prepare(tmp_path / "data")


def test_an_unknown_pair_is_named(tmp_path):
    with pytest.raises(UserError, match=r"fr-de is not among the pairs .*de-en, es-en, fr-en, zh-en"):
        prepare(tmp_path / "data", "fr", "de")


def test_the_dead_address_is_named_and_a_copy_put_in_its_place_is_taken(tmp_path, mirror, capsys):
    words = ["es", "en", "--preset", "fairseq", "--data", str(tmp_path), "--bpe-operations", "60", "--workers", "1"]
    archive = tmp_path / "downloads" / "iwslt14" / "es-en.tgz"
    with pytest.raises(UserError, match=f"or at {archive}"):
        iwslt.main(words, prog="prepare iwslt")
    said = capsys.readouterr().err
    assert f"has not answered since 2020; a copy put at {archive} is taken" in said
    assert "instead: texts/es/en/es-en.tgz in the archive of release 2014-01" in said
    archive.parent.mkdir(parents=True, exist_ok=True)
    small_corpora.pack(archive, small_corpora.iwslt_files(("es", "en"), 14, ["TED.tst2010"], 60))
    iwslt.main(words, prog="prepare iwslt")
    assert "has not answered" not in capsys.readouterr().err
    assert (tmp_path / "iwslt14.es-en.fairseq" / "test.es").is_file()
