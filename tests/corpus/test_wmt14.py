from __future__ import annotations

import json
from pathlib import Path

import pytest
import small_corpora

from rdrop_fairseq.corpus import bpe, lines, moses, wmt14
from rdrop_fairseq.errors import UserError

CORPORA = {
    "de": ["training/europarl-v7.de-en", "commoncrawl.de-en", "training/news-commentary-v9.de-en"],
    "fr": [
        "training/europarl-v7.fr-en",
        "commoncrawl.fr-en",
        "un/undoc.2000.fr-en",
        "training/news-commentary-v9.fr-en",
        "giga-fren.release2.fixed",
    ],
}


pytestmark = pytest.mark.usefixtures("without_fairseq")


@pytest.fixture(scope="module")
def mirror(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mirror")
    small_corpora.wmt14_archives(folder)
    return folder


@pytest.fixture(autouse=True)
def use_mirror(mirror, monkeypatch):
    monkeypatch.setenv("DATA_MIRROR", f"file://{mirror}")


WORDS = "--joined-dictionary --nwordssrc 32768 --nwordstgt 32768"


def prepare(data: Path, *words: str) -> Path:
    """The command; returns the folder that it made."""
    wmt14.main([*words, "--data", str(data), "--bpe-operations", "150", "--workers", "1"], prog="prepare wmt14")
    return data / f"wmt14.en-{words[0]}"


def read(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").split("\n")[:-1]


def recipe(line: str, language: str) -> str:
    """One line of training text before BPE."""
    return moses.Tokenizer(language, aggressive=True)(moses.remove_nonprinting(moses.Normalizer(language)(line)))


def tokenized(folder: Path, target: str, language: str) -> list[str]:
    """The training text of all corpora, in the recipe's order."""
    found = [next((folder / "orig").glob(f"*/{stem}.{language}")) for stem in CORPORA[target]]
    raw = [line for path in found for line in path.read_bytes().decode().split("\n")[:-1]]
    return [recipe(line, language) for line in raw]


@pytest.mark.parametrize(("target", "nth"), [("de", 100), ("fr", 1333)])
def test_the_text_is_that_of_the_recipe(tmp_path, monkeypatch, target, nth):
    if target == "fr":  # the miniature has 334 pairs: a smaller step, so that something is valid
        nth = 50
        monkeypatch.setitem(wmt14.RECIPES, "fr", {"icml17": wmt14.replace(wmt14.FRENCH, nth=nth)})
    folder = prepare(tmp_path, target, "--preset", "icml17")
    sides = {language: tokenized(folder, target, language) for language in ("en", target)}
    assert len(sides["en"]) == 60 * len(CORPORA[target]) + 2 * len(small_corpora.NASTY)
    for language, text in sides.items():
        assert read(folder / "tmp" / f"train.{language}") == [x for n, x in enumerate(text, 1) if n % nth]
        assert read(folder / "tmp" / f"valid.{language}") == [x for n, x in enumerate(text, 1) if n % nth == 0]
        test = [*(pair for pair in small_corpora.pairs(("en", target), 8, 20_000)), ("It's a test-case & <b>",) * 2]
        side = 0 if language == "en" else 1
        expected = [moses.Tokenizer(language, aggressive=True)(pair[side]) for pair in test]
        assert read(folder / "tmp" / f"test.{language}") == expected
    assert_bpe_and_clean(folder, ("en", target))


def assert_bpe_and_clean(folder: Path, languages: tuple[str, str]) -> None:
    """BPE first, then 1 to 250 pieces and a ratio of 1.5 in train and valid; the test set stays whole."""
    segment = bpe.Segmenter(folder / "code")
    dropped = 0
    for split in ("train", "valid", "test"):
        text = zip(*(map(segment, read(folder / "tmp" / f"{split}.{language}")) for language in languages))
        kept = []
        for pair in text:
            lengths = sorted(len(line.split()) for line in pair)
            if split == "test" or (lengths[0] >= 1 and lengths[1] <= 250 and lengths[1] <= 1.5 * lengths[0]):
                kept.append(pair)
            else:
                dropped += 1
        found = list(zip(*(read(folder / f"{split}.{language}") for language in languages)))
        assert found == kept
    assert dropped >= 8


def test_scaling_nmt_is_the_default_for_german(tmp_path):
    """fairseq #203: news commentary v12, newstest2013 whole as valid, 1 to 80 words (ratio 9) before BPE."""
    folder = prepare(tmp_path, "de")
    sides = []
    for side, language in enumerate(("de", "en")):
        news = small_corpora.pairs(("de", "en"), 60, 5000)
        assert read(folder / "tmp" / f"valid.{language}") == [recipe(pair[side], language) for pair in news]
        stems = ["*/training/europarl-v7.de-en", "*/commoncrawl.de-en", "*/training/news-commentary-v12.de-en"]
        raw = [next((folder / "orig").glob(f"{stem}.{language}")).read_bytes().decode() for stem in stems]
        sides.append([" ".join(recipe(line, language).split()) for text in raw for line in text.split("\n")[:-1]])
    kept = []
    for pair in zip(*sides):
        lengths = sorted(len(line.split()) for line in pair)
        if lengths[0] >= 1 and lengths[1] <= 80 and lengths[1] <= 9 * lengths[0]:
            kept.append(pair)
    assert 0 < len(kept) < len(sides[0])
    segment = bpe.Segmenter(folder / "code")
    for side, language in enumerate(("de", "en")):
        assert read(folder / "tmp" / f"train.{language}") == [pair[side] for pair in kept]
        assert read(folder / f"train.{language}") == [segment(pair[side]) for pair in kept]
    assert len(read(folder / "valid.en")) == 60
    assert (folder / "bin" / "command").read_text().endswith(WORDS)
    whole = json.loads((folder / "manifest.json").read_text())
    assert whole["name"] == "WMT14 en-de (scaling-nmt)"
    assert whole["options"]["preset"] == "scaling-nmt"
    assert {name: row["known"] for name, row in whole["known_counts"].items()} == {
        "train": 4_500_000, "valid": 3_000, "test": 3_003, "input": 4_544_200
    }  # fmt: skip
    assert wmt14.SCALING.operations == 32_764


@pytest.mark.parametrize(
    ("news", "known"), [("v9", (4_475_414, 3_900_000)), ("v12", (4_544_200, 3_960_793))]
)  # fairseq #132 counted v12
def test_known_counts_of_icml17(tmp_path, news, known):
    folder = prepare(tmp_path, "de", "--preset", "icml17", "--news-commentary", news)
    rows = json.loads((folder / "manifest.json").read_text())["known_counts"]
    assert (rows["input"]["known"], rows["train"]["known"]) == known
    assert rows["input"]["found"] == 60 * 3 + 2 * len(small_corpora.NASTY)


def test_segmented_text_of_google_is_imported_as_it_is(tmp_path):
    google = tmp_path / "wmt16_en_de"
    google.mkdir()
    for name, count in zip(wmt14.GOOGLE.values(), (5, 3, 2)):
        for language in ("en", "de"):
            lines_of = "".join(f"{language} w@@ ord {number} &apos; |\n" for number in range(count))
            (google / f"{name}.{language}").write_text(lines_of)
    data = tmp_path / "data"
    words = ["de", "--data", str(data), "--from-bpe", str(google), "--workers", "1"]
    wmt14.main(words, prog="prepare wmt14")
    made = data / "wmt14.en-de"
    for split, name in wmt14.GOOGLE.items():
        for language in ("en", "de"):
            assert (made / f"{split}.{language}").read_bytes() == (google / f"{name}.{language}").read_bytes()
    assert (made / "bin" / "command").read_text().endswith(WORDS)
    whole = json.loads((made / "manifest.json").read_text())
    assert (whole["name"], whole["sentence_pairs"]) == (
        "WMT14 en-de (scaling-nmt, imported)", {"train": 5, "valid": 3, "test": 2}
    )  # fmt: skip
    (google / "newstest2014.tok.bpe.32000.de").unlink()
    with pytest.raises(UserError, match=r"newstest2014\.tok\.bpe\.32000\.de is missing: --from-bpe"):
        wmt14.main(words, prog="prepare wmt14")
    with pytest.raises(UserError, match="--from-bpe imports the finished text of scaling-nmt"):
        wmt14.main([*words, "--preset", "icml17"], prog="prepare wmt14")


def test_by_hand(tmp_path, monkeypatch):
    """Normalized („“ to quotes, no-break space), a control character gone, hyphens split; not lowercased."""
    folder = tmp_path / "hand"
    sides = {"de": "Das „Wort-Spiel“\u00a0ist\x07 gut\u2026\r\n", "en": "The “word-play”, it’s good…\r\n"}
    stems = {
        "wmt13/training-parallel-europarl-v7.tgz": "training/europarl-v7.de-en",
        "wmt13/training-parallel-commoncrawl.tgz": "commoncrawl.de-en",
        "wmt14/training-parallel-nc-v9.tgz": "training/news-commentary-v9.de-en",
    }
    for archive, stem in stems.items():
        small_corpora.pack(folder / archive, {f"{stem}.{x}": text.encode() for x, text in sides.items()})
    small_corpora.pack(folder / "wmt14/test-full.tgz", small_corpora.newstest2014())
    monkeypatch.setenv("DATA_MIRROR", str(folder))
    made = prepare(tmp_path, "de", "--preset", "icml17")
    assert read(made / "tmp/train.de") == ["Das &quot; Wort @-@ Spiel &quot; ist gut ..."] * 3
    assert read(made / "tmp/train.en") == ["The &quot; word @-@ play , &quot; it &apos;s good ..."] * 3


def test_an_option_redoes_only_what_depends_on_it(tmp_path):
    def made(folder):
        steps = json.loads((folder / "manifest.json").read_text())["steps"]
        return {step["title"]: [output["modified_ns"] for output in step["outputs"]] for step in steps}

    first = made(prepare(tmp_path, "de", "--preset", "icml17"))
    second = made(prepare(tmp_path, "de", "--preset", "icml17", "--news-commentary", "v12"))
    same = {title for title in first if second.get(title) == first[title]}
    kept = [f"unpack {x}.tgz" for x in ("training-parallel-europarl-v7", "training-parallel-commoncrawl", "test-full")]
    assert same == {*kept, "tokenize europarl-v7.de-en", "tokenize commoncrawl.de-en", "tokenize test"}
    assert made(prepare(tmp_path, "de", "--preset", "icml17", "--news-commentary", "v12")) == second


def test_any_number_of_workers_gives_the_same_bytes(tmp_path, monkeypatch):
    monkeypatch.setattr(lines, "CHUNK_BYTES", 700)
    monkeypatch.setattr(bpe, "TASK_BYTES", 2000)
    folders = [prepare(tmp_path / each, "de", "--preset", "icml17", "--workers", each) for each in ("1", "3")]
    one, three = ({path.name: path.read_bytes() for path in folder.glob("*.??")} for folder in folders)
    assert len(one) == 6
    assert one == three


def test_the_manifest_compares_with_what_is_known(tmp_path, capsys):
    folder = prepare(tmp_path, "fr")
    found = json.loads((folder / "manifest.json").read_text())
    known = {split: row["known"] for split, row in found["known_counts"].items()}
    assert known == {"train": 35_800_000, "valid": 26_854, "test": 3_003}
    assert "WARNING: WMT14 en-fr (icml17): train has" in capsys.readouterr().err
    assert sorted(found["inputs"]) == [
        "test-full.tgz",
        "training-giga-fren.tar",
        "training-parallel-commoncrawl.tgz",
        "training-parallel-europarl-v7.tgz",
        "training-parallel-nc-v9.tgz",
        "training-parallel-un.tgz",
    ]
    assert found["inputs"]["training-parallel-un.tgz"]["published_at"] == [
        "https://www.statmt.org/wmt13/training-parallel-un.tgz",
        "http://statmt.org/wmt13/training-parallel-un.tgz",
    ]


@pytest.mark.parametrize("option", [("--preset", "scaling-nmt"), ("--news-commentary", "v12")])
def test_options_for_german_only_are_refused_for_french(tmp_path, option):
    with pytest.raises(UserError, match="is for English-German only"):
        prepare(tmp_path, "fr", *option)
