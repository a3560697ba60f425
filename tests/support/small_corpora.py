"""Miniature archives with the names, the layout and the markup of the real ones, and their nasty lines."""

from __future__ import annotations

import gzip
import io
import random
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path

NOUNS = {"en": "dog cat house river teacher book tree song", "de": "Hund Katze Haus Fluss Lehrer Buch Baum Lied"}
NOUNS["es"] = "perro gato casa río maestro libro árbol canto"
NOUNS["fr"] = "chien chat maison fleuve maître livre arbre chant"
NOUNS["zh"] = "狗 猫 房子 河 老师 书 树 歌"
VERBS = {"en": "sees finds likes paints", "de": "sieht findet mag malt", "es": "ve halla quiere pinta"}
VERBS.update({"fr": "voit trouve aime peint", "zh": "看见 找到 喜欢 画"})
LINKS = {"en": "and", "de": "und", "es": "y", "fr": "et", "zh": "和"}
Pair = tuple[str, str]


def sentence(number: int, language: str) -> str:
    """A sentence of 4 to 12 words; the same number says the same in every language."""
    choose = random.Random(number)
    nouns, verbs = NOUNS[language].split(), VERBS[language].split()
    clauses = []
    for _ in range(choose.choice((1, 2, 3))):
        clauses.append([nouns[choose.randrange(8)], verbs[choose.randrange(4)], nouns[choose.randrange(8)]])
    gap, end = ("", "。") if language == "zh" else (" ", ".")
    return f"{gap}{LINKS[language]}{gap}".join(gap.join(clause) for clause in clauses).capitalize() + end


def pairs(languages: Pair, count: int, start: int = 0) -> list[Pair]:
    """Parallel sentences."""
    return [(sentence(n, languages[0]), sentence(n, languages[1])) for n in range(start, start + count)]


# Each of these is in the training text of every miniature corpus.
NASTY: list[Pair] = [
    ("", ""),
    ("", "only one side"),
    ("   \t ", " \u3000 "),
    ("one two three", "one two three four five"),  # ratio 1.67
    ("a b c d e f g h i", "a b c"),  # ratio 3
    ("two words", "two words more"),  # ratio 1.5: stays
    ("bell \x07 and null \x01 inside", "bell \x07 and null \x01 inside"),
    ("no\u00a0break\u2009thin\u3000wide", "no\u00a0break\u2009thin\u3000wide"),
    ("zero\u200bwidth and \u2028 line \u0085 ends", "zero\u200bwidth and \u2028 line \u0085 ends"),
    ("carriage return at the end\r", "carriage return at the end\r"),
    ("It’s „quoted“ & <b>bold</b> | [piped]", "It’s “quoted” & <b>bold</b> | [piped]"),
    ("<speaker>Some One</speaker>", "<speaker>Some One</speaker>"),
    ("und so weiter usw.", "and so on etc."),
    ("1,000.50 $ i.e. 3-4 %", "1,000.50 $ i.e. 3-4 %"),
    ("w " * 176, "w " * 176),
    ("w " * 175, "w " * 175),
    ("x" * 300, "y" * 300),
]
HEAD = [
    "<url>http://www.ted.com/talks/x.html</url>",
    "<keywords>talks, art</keywords>",
    "<talkid>{n}</talkid>",
    "<title>Talk number {n}</title>",
    "<description>TED Talk Subtitles: {n} & more</description>",
]


def tags_file(sentences: Sequence[str], per_talk: int = 10) -> bytes:
    """train.tags.*: talks of `per_talk` sentences, each under its head."""
    lines = []
    for number, text in enumerate(sentences):
        if number % per_talk == 0:
            lines += [line.format(n=number) for line in HEAD]
        lines.append(text)
        if number % per_talk == 4:
            lines.append("<title></title>")
    return "".join(f"{line}\n" for line in lines).encode()


def segments_file(sentences: Sequence[str], end: str = "\n") -> bytes:
    """An .xml or .sgm test set."""
    lines = ['<?xml version="1.0" encoding="UTF-8"?>', "<mteval>", '<srcset setid="x">', '<doc docid="1">']
    lines += ["<title>Not a segment</title>", "<p>"]
    lines += [f'<seg id="{number}"> {text} </seg>' for number, text in enumerate(sentences, 1)]
    lines += ["</p>", "</doc>", "</srcset>", "</mteval>"]
    return "".join(line + end for line in lines).encode()


def text_file(sentences: Sequence[str]) -> bytes:
    """One sentence a line."""
    return "".join(f"{text}\n" for text in sentences).encode()


def pack(path: Path, files: Mapping[str, bytes]) -> None:
    """Writes a .tgz, or a .tar by its name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w" if path.suffix == ".tar" else "w:gz") as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))


def iwslt_files(
    languages: Pair, year: int, tests: Sequence[str], count: int, nasty: Sequence[Pair] = NASTY
) -> dict[str, bytes]:
    """What is inside an IWSLT archive: name -> bytes."""
    name = "-".join(languages)
    train = pairs(languages, count)
    for place, pair in enumerate(nasty):
        train.insert(place * 3, pair)
    files = {f"{name}/README": b"about\n"}
    for side, language in enumerate(languages):
        files[f"{name}/train.tags.{name}.{language}"] = tags_file([pair[side] for pair in train])
        for number, test in enumerate(tests):
            held_out = [*pairs(languages, 4, 10_000 + 10 * number), ("It’s &amp; so on", "It’s &amp; so on")]
            data = segments_file([pair[side] for pair in held_out], "\r\n" if number == 1 else "\n")
            files[f"{name}/IWSLT{year}.{test}.{name}.{language}.xml"] = data
    return files


def iwslt_archive(mirror: Path, languages: Pair = ("de", "en"), count: int = 120) -> None:
    """The archive of a pair in a folder for DATA_MIRROR."""
    tests = ["TED.dev2010", "TEDX.dev2012", "TED.tst2010", "TED.tst2011", "TED.tst2012"]
    if languages != ("de", "en"):
        tests.remove("TEDX.dev2012")
    year = 17 if languages[0] in ("fr", "zh") else 14
    tests += ["TED.tst2013", "TED.tst2014", "TED.tst2015"] if year == 17 else []
    pack(mirror / f"{'-'.join(languages)}.tgz", iwslt_files(languages, year, tests, count))


def talk_archives(mirror: Path, language: str, count: int = 120) -> None:
    """The three archives of an IWSLT pair beside German, by their paths on a host: of test, one side in each."""
    year, test = (14, "tst2014") if language == "es" else (17, "tst2017")
    names = ("tst2010", "tst2011", "tst2012") if language == "es" else ("tst2013", "tst2014", "tst2015")
    train, held_out = ("2014-01", "2014-01-test") if language == "es" else ("2017-01-trnted", "2017-01-ted-test")
    files = iwslt_files(("en", language), year, [f"TED.{name}" for name in names], count)
    pack(mirror / f"archive/{train}/texts/en/{language}/en-{language}.tgz", files)
    for pair in (("en", language), (language, "en")):
        name = "-".join(pair)
        text = [*(sentence(number, pair[0]) for number in range(10_050, 10_060)), "It’s “so” &amp; on"]
        content = {f"{name}/IWSLT{year}.TED.{test}.{name}.{pair[0]}.xml": segments_file(text)}
        content[f"{name}/IWSLT{year}.TED.tst2016.{name}.{pair[0]}.xml"] = segments_file(["of another year"])
        pack(mirror / f"archive/{held_out}/texts/{'/'.join(pair)}/{name}.tgz", content)


def wmt14_archives(mirror: Path, count: int = 60) -> None:
    """All archives of WMT14 English-German and English-French, for DATA_MIRROR."""
    stems = {
        "wmt13/training-parallel-europarl-v7.tgz": ("training/europarl-v7.de-en", "training/europarl-v7.fr-en"),
        "wmt13/training-parallel-commoncrawl.tgz": ("commoncrawl.de-en", "commoncrawl.fr-en"),
        "wmt13/training-parallel-un.tgz": ("un/undoc.2000.fr-en",),
        "wmt14/training-parallel-nc-v9.tgz": ("training/news-commentary-v9.de-en", "training/news-commentary-v9.fr-en"),
        "wmt17/translation-task/training-parallel-nc-v12.tgz": ("training/news-commentary-v12.de-en",),
        "wmt17/translation-task/dev.tgz": ("dev/newstest2013.de",),
        "wmt10/training-giga-fren.tar": ("giga-fren.release2.fixed.fr",),
    }
    for number, (archive, names) in enumerate(stems.items()):
        files = {"README": b"about\n"}
        for name in names:
            stem, target = (name[:-3], name[-2:]) if name[-3] == "." else (name, name[-5:-3])
            text = pairs((target, "en"), count, 1000 * number) + (NASTY if number < 2 else [])
            files[f"{stem}.{target}"] = text_file([pair[0] for pair in text])
            files[f"{stem}.en"] = text_file([pair[1] for pair in text])
        if archive.endswith(".tar"):
            files = {f"{member}.gz": gzip.compress(data, mtime=0) for member, data in files.items()}
        pack(mirror / archive, files)
    pack(mirror / "wmt14/test-full.tgz", newstest2014())


def newstest2014() -> dict[str, bytes]:
    """test-full.tgz: name -> bytes."""
    files = {}
    for target, code in (("de", "deen"), ("fr", "fren")):
        test = [*pairs(("en", target), 8, 20_000), ("It’s a test-case & <b>", "It’s a test-case & <b>")]
        files[f"test-full/newstest2014-{code}-src.en.sgm"] = segments_file([pair[0] for pair in test])
        files[f"test-full/newstest2014-{code}-ref.{target}.sgm"] = segments_file([pair[1] for pair in test])
    return files
