"""`compare`: what may be given as a system, what is printed and written, what is refused."""

import json
import random

import pytest

from rdrop_fairseq.errors import UserError
from rdrop_fairseq.scoring import conventions, results, significance
from rdrop_fairseq.scoring.compare import main
from rdrop_fairseq.scoring.conventions import score


@pytest.fixture(autouse=True)
def fewer_samples(monkeypatch):
    monkeypatch.setattr(significance, "RESAMPLES", 100)
    monkeypatch.setattr(significance, "TRIALS", 100)


@pytest.fixture
def systems(tmp_path):
    """A reference of 30 lines and text files a, b, c that get ever more of it wrong."""
    dice = random.Random(2)
    words = ["das", "Haus-Tier", "ist", "im", "Garten", "und", "spielt", "."]
    ref = [" ".join(dice.choices(words, k=9)) for _ in range(30)]
    texts = {"ref": ref}
    for name, share in (("a", 0.05), ("b", 0.2), ("c", 0.25)):
        texts[name] = [" ".join("x" if dice.random() < share else word for word in line.split()) for line in ref]
    for name, lines in texts.items():
        (tmp_path / name).write_text("\n".join(lines) + "\n")
    return tmp_path, texts


def said(capsys, *words):
    main([str(word) for word in words], "compare")
    return capsys.readouterr().out


def result_directory(directory, texts, name):
    made = results.make_texts(texts[name], [texts["ref"]], "de")
    result = results.Result([made.score(convention) for convention in conventions.TITLES], len(texts["ref"]))
    directory.mkdir(parents=True)
    results.write(directory, made, result)
    return directory


def test_text_files_as_a_markdown_table(capsys, systems):
    where, texts = systems
    out = said(capsys, where / "b", where / "a", "--ref", where / "ref", "--lang", "de", "--output", where / "out dir")
    assert (where / "out dir" / "comparison.md").read_text() == out
    content = json.loads((where / "out dir" / "comparison.json").read_text())
    assert [each["convention"] for each in content["comparisons"]] == list(conventions.TITLES)
    expected = {name: score("tokenized", texts[name], [texts["ref"]]).score for name in "ab"}
    row = next(line for line in out.splitlines() if line.startswith("| tokenized BLEU (multi-bleu.perl) |")).split("|")
    assert row[2].startswith(f" {expected['b']:.2f} [")
    assert row[3].startswith(f" {expected['a']:.2f} [")
    assert row[4] == f" {expected['a'] - expected['b']:+.2f} "
    assert "- sacreBLEU (detokenized): `nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:" in out
    assert "|seed:12345|bs:100|ar:100`" in out


def test_results_of_score_in_every_form(capsys, systems):
    where, texts = systems
    baseline = result_directory(where / "base" / "seed 1", texts, "b")
    system = result_directory(where / "rdrop" / "seed 1", texts, "a")
    outputs = {
        said(capsys, *pair, "--convention", "compound-split")
        for pair in (
            (baseline, system),
            (baseline / "scores.json", system / "scores.json"),
            (where / "base", where / "rdrop"),
            ("--baseline", baseline, "--rdrop", system),
        )
    }
    assert len(outputs) == 1
    assert f"{score('compound-split', texts['a'], [texts['ref']]).score:.2f} [" in outputs.pop()


def test_a_directory_of_seeds_is_averaged(capsys, systems):
    where, texts = systems
    for seed, (base, ours) in {"1": "ba", "2": "cb"}.items():
        result_directory(where / "base" / seed, texts, base)
        result_directory(where / "rdrop" / seed, texts, ours)
    content = json.loads(said(capsys, where / "base", where / "rdrop", "--json", "--convention", "tokenized"))
    bleu = {name: score("tokenized", texts[name], [texts["ref"]]).score for name in "abc"}
    found = content["comparisons"][0]
    assert content["seeds"] == 2
    assert found["baseline_seeds"] == [bleu["b"], bleu["c"]]
    assert found["system"] == pytest.approx((bleu["a"] + bleu["b"]) / 2)
    markdown = said(capsys, where / "base", where / "rdrop", "--convention", "tokenized")
    assert f"R-Drop {bleu['a']:.2f}, {bleu['b']:.2f} (s.d. " in markdown


def test_generations(capsys, systems):
    where, texts = systems
    for name in "ab":
        lines = [f"T-{i}\t{ref}\nH-{i}\t-0.1\t{hyp}" for i, (ref, hyp) in enumerate(zip(texts["ref"], texts[name]))]
        (where / f"{name}.gen").write_text("\n".join([*reversed(lines), "Generate test with beam=5: BLEU4 = 1"]) + "\n")
    found = json.loads(said(capsys, where / "b.gen", where / "a.gen", "--json", "--convention", "tokenized"))
    assert found["comparisons"][0]["system"] == score("tokenized", texts["a"], [texts["ref"]]).score


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["a", "b"], "a has no references in it: give the reference file with --ref"),
        (["a", "short", "--ref", "ref"], "29 hypotheses but 30 references"),
        (["a", "none", "--ref", "ref"], r"has no scores\.json, nor any directory in it"),
        (["--baseline", "a", "b", "--rdrop", "c", "--ref", "ref"], "2 seeds of the baseline but 1 of R-Drop"),
        (["first", "second"], "not scored against the same references"),
        (["first", "broken"], r"scores\.json was not written by this project's score command"),
    ],
)
def test_what_cannot_be_compared(systems, monkeypatch, words, message):
    where, texts = systems
    monkeypatch.chdir(where)
    (where / "short").write_text("\n".join(texts["a"][:-1]) + "\n")
    result_directory(where / "first", texts, "a")
    result_directory(where / "second", {**texts, "ref": texts["c"]}, "a")
    (where / "broken").mkdir()
    (where / "broken" / "scores.json").write_text("[]")
    (where / "none").mkdir()
    with pytest.raises(UserError, match=message):
        main(words, "compare")


@pytest.mark.parametrize("words", [[], ["a"], ["a", "b", "c"], ["a", "--baseline", "b", "--rdrop", "c"]])
def test_not_two_systems(words):
    with pytest.raises(SystemExit, match="2"):
        main(words, "compare")
