"""`score` on files: what is printed, in text and JSON, and what is refused."""

import json
from pathlib import Path

import pytest
import sacrebleu

from rdrop_fairseq.__main__ import main as command_line
from rdrop_fairseq.errors import UserError
from rdrop_fairseq.scoring import results, score
from rdrop_fairseq.scoring.score import main

GOLDEN = Path(__file__).parent / "golden"


def said(capsys, *words):
    main([str(word) for word in words], "score")
    return capsys.readouterr().out


@pytest.fixture
def pair(tmp_path):
    (tmp_path / "hyp").write_text("Das ist gut .\nEin Test , oder nicht ?\n", encoding="utf-8")
    (tmp_path / "ref").write_text("Das ist gut .\nEin Video-Test , oder nicht ?\n", encoding="utf-8")
    return "--hyp", tmp_path / "hyp", "--ref", tmp_path / "ref"


def test_every_convention_with_its_name_and_signature(capsys):
    out = said(capsys, "--hyp", GOLDEN / "hyp.tok.de", "--ref", GOLDEN / "ref.tok.de")
    for name in ("multi-bleu.txt", "multi-bleu.compound-split.txt"):
        assert (GOLDEN / name).read_text().strip() in out
    assert " 57.15  tokenized BLEU (multi-bleu.perl)\n" in out
    assert f"tok:13a|smooth:exp|version:{sacrebleu.__version__}" in out
    assert "chrF2" in out


@pytest.mark.parametrize("language", [[], ["--lang", "de"]])
def test_tokenized_text_without_a_language_is_remarked_on(capsys, tmp_path, language):
    (tmp_path / "hyp").write_text("Das ist gut .\nEin Test .\nJa\n")
    out = said(capsys, "--hyp", tmp_path / "hyp", "--ref", tmp_path / "hyp", *language)
    assert ("note: the text looks tokenized: give --lang" in out) == (language == [])


@pytest.mark.parametrize("aggressive", [False, True])
def test_hyphens_that_are_split_already_are_remarked_on(capsys, tmp_path, aggressive):
    """Split by the tokenizer (-a) or by the convention, a compound is three words: BLEU is the same to the digit."""
    hyphen = " @-@ " if aggressive else "-"
    (tmp_path / "hyp").write_text(f"er las den rich{hyphen}text gern\nder Text war nicht gut\n")
    (tmp_path / "ref").write_text(f"er las den rich{hyphen}text oft\nder Text war gut\n")
    content = json.loads(said(capsys, "--hyp", tmp_path / "hyp", "--ref", tmp_path / "ref", "--json"))
    found = {score["convention"]: score["line"] for score in content["scores"]}
    three_words = found["tokenized" if aggressive else "compound-split"]
    assert three_words.endswith("hyp_len=12, ref_len=11)")
    assert any("split at hyphens (@-@) already" in note for note in content["notes"]) == aggressive
    if aggressive:
        assert found["compound-split"].endswith("hyp_len=14, ref_len=13)")


def test_json_and_chosen_conventions(capsys, pair):
    content = json.loads(said(capsys, *pair, "--json", "--convention", "tokenized", "--convention", "compound-split"))
    assert [score["convention"] for score in content["scores"]] == ["tokenized", "compound-split"]
    # 9 of 10 words, 6 of 8 bigrams, 4 of 6 trigrams, 2 of 4 4-grams: 100 * 0.225 ** (1 / 4)
    assert content["scores"][0]["line"].startswith("BLEU = 68.87, 90.0/75.0/66.7/50.0 (BP=1.000, ratio=1.000")
    assert content["scores"][1]["line"].endswith("hyp_len=10, ref_len=12)")


def test_with_a_language_the_text_is_detokenized(capsys, pair):
    chosen = ["--convention", "chrf2", "--convention", "tokenized"]
    content = json.loads(said(capsys, *pair, "--json", "--lang", "de", *chosen))
    hyp, ref = ["Das ist gut.", "Ein Test, oder nicht?"], ["Das ist gut.", "Ein Video-Test, oder nicht?"]
    assert content["scores"][0]["score"] == pytest.approx(sacrebleu.corpus_chrf(hyp, [ref]).score)
    assert content["scores"][1]["line"].endswith("hyp_len=10, ref_len=10)")
    assert any("detokenized references stand for" in note for note in content["notes"])


def test_a_plain_reference_is_taken_as_it_is_and_case_is_ignored_for_lowercased_data(capsys, pair, tmp_path):
    for name in ("hyp", "ref"):
        (tmp_path / name).write_text((tmp_path / name).read_text().lower())
    (tmp_path / "plain").write_text("Das ist GUT.\nEin Video-Test – oder nicht?\n", encoding="utf-8")
    words = [*pair, "--json", "--lang", "de", "--plain-ref", tmp_path / "plain"]
    scores = {each["convention"]: each for each in json.loads(said(capsys, *words))["scores"]}
    hyp = ["das ist gut.", "ein test, oder nicht?"]
    ref = ["das ist gut.", "ein video-test – oder nicht?"]
    assert scores["sacrebleu"]["score"] == pytest.approx(sacrebleu.corpus_bleu(hyp, [ref]).score)
    assert "case:lc" in scores["sacrebleu"]["signature"]
    assert "case:mixed" in scores["tokenized"]["signature"]


def test_published_numbers_are_printed_as_such(capsys, pair):
    out = said(capsys, *pair, "--benchmark", "iwslt14.de-en")
    assert "published for iwslt14.de-en (not measured here):" in out
    assert " 37.25  R-Drop: tokenized, lowercased, as multi-bleu.perl\n" in out


def test_saved_generation_with_its_references(capsys, tmp_path):
    lines = ["T-1\tb c <<unk>> e f", "H-1\t-0.1\tb c d e f", "Hydra 1.4 will", "T-0\ta b c d", "H-0\t-0.2\ta b c d"]
    (tmp_path / "gen").write_text("\n".join([*lines, "Generate test with beam=5: BLEU4 = 1"]) + "\n")
    out = said(capsys, "--hyp", tmp_path / "gen", "--convention", "tokenized")
    # 8 of 9 words, 5 of 7 bigrams, 2 of 5 trigrams, 1 of 3 4-grams
    assert "BLEU = 53.94, 88.9/71.4/40.0/33.3 (BP=1.000, ratio=1.000, hyp_len=9, ref_len=9)" in out
    assert "note: 1 references hold <<unk>>" in out


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda tmp: (tmp / "ref").write_text("a\n"), "2 hypotheses but 1 references"),
        (lambda tmp: (tmp / "hyp").write_text(""), "hyp is empty"),
        (lambda tmp: (tmp / "hyp").write_text("\n\n"), "the hypothesis has no words"),
        (lambda tmp: (tmp / "ref").unlink(), "cannot read .*ref"),
        (lambda tmp: (tmp / "hyp").write_bytes(b"a\n\xff\n"), "hyp line 2 is not UTF-8"),
    ],
)
def test_bad_files_are_told_in_one_line(capsys, pair, tmp_path, change, message):
    change(tmp_path)
    assert command_line(["score", *map(str, pair)]) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("error: ")
    assert printed.err.count("\n") == 1
    with pytest.raises(UserError, match=message):
        main([*map(str, pair)], "score")


@pytest.mark.parametrize("words", [[], ["data"], ["--ref", "r"], ["data", "--hyp", "h"]])
def test_neither_files_nor_a_model(words):
    with pytest.raises(SystemExit, match="2"):
        main(words, "score")


def test_a_translation_that_fails_leaves_nothing_and_keeps_the_last_result(tmp_path, monkeypatch):
    def fails(args, paths, part, extra):
        (part / "generate.txt").write_text("half")
        raise UserError("stopped")

    monkeypatch.setattr(score, "_translate_and_score", fails)
    words = [str(tmp_path), str(tmp_path / "checkpoint1.pt")]
    before = tmp_path / "scores" / "test.checkpoint1"
    before.mkdir(parents=True)
    (before / results.SCORES).write_text("{}")
    with pytest.raises(UserError, match="stopped"):
        main(words, "score")
    assert [path.name for path in before.parent.iterdir()] == [before.name]
    assert [path.name for path in before.iterdir()] == [results.SCORES]
    with pytest.raises(UserError, match="holds other things than scores"):
        main([*words, "--output", str(tmp_path)], "score")
