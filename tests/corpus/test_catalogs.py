"""Catalogs by hand, with the pairs that should come out of them."""

from __future__ import annotations

from pathlib import Path

import polib
import pytest

from rdrop_fairseq.corpus import catalogs
from rdrop_fairseq.errors import UserError

HEADER = 'msgid ""\nmsgstr "Content-Type: text/plain; charset=UTF-8\\n"\n\n'


def write_catalog(path: Path, body: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(HEADER + body, encoding="utf-8")
    return path


def entry(message: str, text: str) -> str:
    return f'msgid "{message}"\nmsgstr "{text}"\n\n'


def test_only_finished_entries_are_read(tmp_path: Path) -> None:
    path = write_catalog(
        tmp_path / "de.po",
        entry("The file was saved.", "Die Datei wurde gespeichert.")
        + "#, fuzzy\n" + entry("The file was closed.", "Die Datei wurde geöffnet.")
        + "#, python-format, fuzzy\n" + entry("The file was moved.", "Die Datei ist weg.")
        + entry("Not translated at all", "") + entry("Blank translation of this", "  ")
        + '#~ msgid "An old message"\n#~ msgstr "Eine alte Nachricht"\n',
    )  # fmt: skip
    assert list(catalogs.read_catalog(path)) == [("The file was saved.", "Die Datei wurde gespeichert.")]


@pytest.mark.parametrize(
    ("forms", "expected"),
    [
        (["Eine Datei", "Viele Dateien"], [("one file", "Eine Datei"), ("many files", "Viele Dateien")]),
        (["ファイル"], [("many files", "ファイル")]),  # one form serves every number
        (["plik", "pliki", "plików"], []),  # which of three belongs to "many" depends on the language
        (["", ""], []),
    ],
)
def test_plurals(tmp_path: Path, forms: list[str], expected: list[tuple[str, str]]) -> None:
    lines = "".join(f'msgstr[{index}] "{form}"\n' for index, form in enumerate(forms))
    path = write_catalog(tmp_path / "x.po", f'msgid "one file"\nmsgid_plural "many files"\n{lines}')
    assert list(catalogs.read_catalog(path)) == expected


def test_compiled_catalog_gives_the_same(tmp_path: Path) -> None:
    source = write_catalog(tmp_path / "x.po", entry("First of all", "Zuallererst") + entry("Second of all", "Zweitens"))
    compiled = tmp_path / "x.mo"
    polib.pofile(str(source)).save_as_mofile(str(compiled))
    assert sorted(catalogs.read_catalog(compiled)) == sorted(catalogs.read_catalog(source))


@pytest.mark.parametrize(
    ("name", "content"), [("x.mo", b"no catalog"), ("x.po", b'msgid "a\nmsgstr'), ("x.po", b"\xff\xfe")]
)
def test_unreadable_catalog_is_named(tmp_path: Path, name: str, content: bytes) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(UserError, match=f"{name}: not a readable message catalog"):
        list(catalogs.read_catalog(path))


@pytest.mark.parametrize(
    ("path", "language", "expected"),
    [
        ("pkg/locale/de/LC_MESSAGES/django.po", "de", True),
        ("pkg/locale/de_DE/LC_MESSAGES/messages.mo", "de", True),
        ("po/de.po", "de", True),
        ("po/app.de.po", "de", True),
        ("locale/zh-Hans/LC_MESSAGES/x.mo", "zh_Hans", True),
        ("locale/pt_BR/x.po", "pt_BR", True),
        ("locale/pt_BR/x.po", "pt", False),
        ("locale/de_AT/x.po", "de", False),
        ("locale/de/x.json", "de", False),
        ("locale/dead/x.po", "de", False),
        ("locale/fr/LC_MESSAGES/node.po", "de", False),
    ],
)
def test_language_is_told_by_the_path(path: str, language: str, expected: bool) -> None:
    assert catalogs.is_of_language(path, language) is expected


def test_find_prefers_po_and_keeps_an_order(tmp_path: Path) -> None:
    for name in ("b/de.mo", "b/de.po", "a/de/only.mo", "a/fr/other.po"):
        write_catalog(tmp_path / name, "")
    found = [path.relative_to(tmp_path).as_posix() for path in catalogs.find_catalogs(tmp_path, "de")]
    assert found == ["a/de/only.mo", "b/de.po"]


def test_find_says_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no catalog of language 'xx'"):
        catalogs.find_catalogs(tmp_path, "xx")
    with pytest.raises(UserError, match="no such folder"):
        catalogs.find_catalogs(tmp_path / "nowhere", "de")


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ("Click <strong>Save</strong> to\n go on", "Click Save to go on"),
        ('See <a href="x.html" target="_blank">the page</a>.', "See the page."),
        ("Fish &amp; chips&nbsp;now", "Fish & chips now"),
        ("Run :hg:`help log` or ``hg log``", "Run help log or hg log"),
        ("This is **very** __important__ here", "This is very important here"),
        ("2 * 3 ** 4 stays", "2 * 3 ** 4 stays"),
        ("soft\u00adhyphen and\u200b zero width", "softhyphen and zero width"),
        ("u\u0308ber", "über"),
    ],
)
def test_plain(raw: str, expected: str) -> None:
    assert catalogs.plain(raw) == expected


@pytest.mark.parametrize(
    ("message", "text", "expected"),
    [
        ("_Open a File", "Eine Datei _öffnen", ("Open a File", "Eine Datei öffnen")),
        ("E_xit the program", "Programm b_eenden", ("Exit the program", "Programm beenden")),
        ("&Open a File", "Eine Datei &öffnen", ("Open a File", "Eine Datei öffnen")),
        ("E&xit now", "Jetzt b&eenden", ("Exit now", "Jetzt beenden")),
        ("&About us", "Ü&ber uns", ("About us", "Über uns")),
        ("The R&D and Q&A pages", "Die F&E- und Q&A-Seiten", ("The R&D and Q&A pages", "Die F&E- und Q&A-Seiten")),
        ("Copy && paste it", "Kopieren && Einfügen", ("Copy & paste it", "Kopieren & Einfügen")),
        ("Black & white", "Schwarz & weiß", ("Black & white", "Schwarz & weiß")),
        ("Open a _File", "ファイルを開く(_F)", ("Open a File", "ファイルを開く")),
        ("Set max_size here", "Hier max_size setzen", ("Set max_size here", "Hier max_size setzen")),
    ],
)
def test_accelerators(message: str, text: str, expected: tuple[str, str]) -> None:
    assert catalogs.without_accelerators(message, text) == expected


GOOD = ("The file could not be read.", "Die Datei konnte nicht gelesen werden.")


@pytest.mark.parametrize(
    ("message", "text", "reason"),
    [
        (*GOOD, None),
        ("You get a 50% discount today", "Sie bekommen heute 50% Rabatt", None),
        ("The A/B test (see below) is over", "Der A/B-Test (siehe unten) ist vorbei", None),
        ("Removed %d old files", "%d alte Dateien entfernt", "format"),
        ("Removed %(count)s old files", "%(count)s alte Dateien entfernt", "format"),
        ("Removed %1$s old files", "%1$s alte Dateien entfernt", "format"),
        ("Removed {count} old files", "{count} alte Dateien entfernt", "format"),
        ("Removed ${count} old files", "${count} alte Dateien entfernt", "format"),
        ("Families containing this <text>", "Familien mit diesem <Text>", "markup"),
        ("Read it at https://x.org now", "Jetzt auf https://x.org lesen", "address"),
        ("Write to me@x.org right now", "Jetzt an me@x.org schreiben", "address"),
        ("Set max_size here now", "Hier jetzt max_size setzen", "code"),
        ("Look into /etc/passwd/x now", "Jetzt in /etc/passwd/x sehen", "code"),
        ("Save this page", "save this PAGE!", "untranslated"),
        ("Save it", "Bitte jetzt speichern", "short"),
        ("Save it right now", "Jetzt speichern", "short"),
        ("word " * 61, "Wort " * 61, "long"),
        ("word " * 60, "Wort " * 60, None),
        ("one two three", "eins zwei drei vier fünf sechs sieben", None),
        ("one two three", "eins zwei drei vier fünf sechs sieben acht", "ratio"),
        ("from A to B: 1234567890 0987654321", "von A nach B: 1234567890 0987654321", "letters"),
        ("Open the file menu", "打开文件菜单", None),  # each ideograph is a word
    ],
)
def test_fault(message: str, text: str, reason: str | None) -> None:
    assert catalogs.fault(message, text) == reason


def test_empty_element_is_a_hole(tmp_path: Path) -> None:
    assert catalogs.fault(catalogs.plain("It takes <strong></strong> to do it"), "Es dauert lange genug") == "format"


def test_collect_takes_each_side_once(tmp_path: Path) -> None:
    path = write_catalog(
        tmp_path / "de.po",
        entry("Delete this file", "Diese Datei löschen")
        + entry("DELETE this file!", "Die Datei wegwerfen")  # the same message, but for case and punctuation
        + entry("Remove this file", "Diese Datei löschen.")  # the same translation
        + entry("Page 1 of 2", "Seite 1 von 2") + entry("Page 3 of 4", "Blatt 3 von 4")
        + entry("OK", "OK"),
    )  # fmt: skip
    pairs, counts = catalogs.collect([path])
    assert pairs == [("Delete this file", "Diese Datei löschen")]
    assert counts == {"kept": 1, "duplicate": 2, "short": 2, "untranslated": 1}
