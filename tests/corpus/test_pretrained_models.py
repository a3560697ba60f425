"""Published models: fetched, recorded, unpacked once; what is not one of them is named."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import small_corpora

from rdrop_fairseq.corpus import pretrained_models
from rdrop_fairseq.errors import UserError


@pytest.fixture
def mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "mirror"
    folder.mkdir()
    for name in ("bart.base", "roberta.large"):
        content = {f"{name}/dict.txt": b"a 1\nb 1\n", f"{name}/NOTE": b"-", f"{name}/model.pt": name.encode() * 999}
        small_corpora.pack(folder / f"{name}.tar.gz", content)
    monkeypatch.setenv("DATA_MIRROR", folder.as_uri())
    return folder


def test_fetched_once(mirror: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = tmp_path / "data"
    words = ["bart.base", "roberta.large", "--models", str(data)]
    assert pretrained_models.main(words, prog="prepare model") == 0
    for name in ("bart.base", "roberta.large"):
        assert (data / name / "model.pt").read_bytes() == name.encode() * 999
        assert sorted(path.name for path in (data / name).iterdir()) == ["dict.txt", "manifest.json", "model.pt"]
    record = json.loads((data / "bart.base" / "manifest.json").read_text())
    assert record["complete"]
    assert record["inputs"]["bart.base.tar.gz"]["published_at"] == [
        "https://dl.fbaipublicfiles.com/fairseq/models/bart.base.tar.gz"
    ]
    assert len(record["inputs"]["bart.base.tar.gz"]["sha256"]) == 64
    assert record["steps"][0]["counts"] == {"dictionary_entries": 2}
    capsys.readouterr()
    pretrained_models.main(words, prog="prepare model")
    said = capsys.readouterr()
    assert said.err.count("done before") == 2
    assert said.out.splitlines() == [str(data / name / "model.pt") for name in ("bart.base", "roberta.large")]


def test_another_archive_under_the_same_name_is_not_taken(mirror: Path, tmp_path: Path) -> None:
    pretrained_models.fetch("bart.base", tmp_path)
    (tmp_path / "downloads" / "models" / "bart.base.tar.gz").unlink()
    small_corpora.pack(mirror / "bart.base.tar.gz", {"bart.base/dict.txt": b"", "bart.base/model.pt": b"other"})
    with pytest.raises(UserError, match="its sha256 is not"):
        pretrained_models.fetch("bart.base", tmp_path)


def test_unknown_name_and_archive_without_a_model(mirror: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"choose one of bart\.base, bart\.large"):
        pretrained_models.fetch("bart.huge", tmp_path)
    small_corpora.pack(mirror / "bart.large.tar.gz", {"bart.large/dict.txt": b"a 1\n"})
    with pytest.raises(UserError, match=r"has no .*model\.pt inside"):
        pretrained_models.fetch("bart.large", tmp_path)
    assert not (tmp_path / "bart.large" / "unpacked").exists()
