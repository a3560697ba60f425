"""Reading a config: flat, every key once, values as written."""

from __future__ import annotations

from pathlib import Path

import pytest

from rdrop_fairseq.errors import UserError
from rdrop_fairseq.training.config import find_config, read_config


def config_file(folder: Path, text: str) -> Path:
    path = folder / "mine.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_values_stay_as_written(tmp_path: Path) -> None:
    """YAML's own typing would make 1e-7 a string, 0.10 a 0.1, no a False and 010 an 8."""
    text = "# head\nlr: 5e-4\ndropout: 0.10  # why\nsource-lang: no\nseed: 010\ntokens-per-update: 4096\n"
    experiment = read_config(config_file(tmp_path, text))
    assert [(entry.key, entry.value, entry.line) for entry in experiment.options] == [
        ("lr", "5e-4", 2), ("dropout", "0.10", 3), ("source-lang", "no", 4), ("seed", "010", 5),
    ]
    assert experiment.name == "mine"
    assert experiment.tokens_per_update == 4096


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("lr: 1\ndropout: 0.1\nlr: 2\n", r"line 3: lr is already set on line 1"),
        ("lr: [1, 2]\n", r"line 1: 'lr' must have one plain value"),
        ("dropout: 0.1\nfp16: true\n", r"line 2: fp16 does not belong in a config \(the precision follows"),
        ("update-freq: 16\n", r"update-freq does not belong in a config"),
        ("- lr\n", r"expected lines of `option: value`"),
        ("", r"expected lines of `option: value`"),
        ("lr: 'open\n", r"not a readable YAML file"),
    ],
)
def test_what_is_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        read_config(config_file(tmp_path, text))


@pytest.mark.parametrize("value", ["0", "4k", "-1", ""])
def test_tokens_per_update_is_a_count(tmp_path: Path, value: str) -> None:
    experiment = read_config(config_file(tmp_path, f"tokens-per-update: '{value}'\n"))
    with pytest.raises(UserError, match="whole number above 0"):
        experiment.tokens_per_update  # noqa: B018


def test_a_config_is_found_by_name_or_path(tmp_path: Path) -> None:
    (tmp_path / "configs").mkdir()
    path = config_file(tmp_path / "configs", "lr: 1\n")
    assert find_config("mine", tmp_path) == path
    assert find_config("mine.yaml", tmp_path) == path
    assert find_config(str(path), Path("elsewhere")) == path
    with pytest.raises(UserError, match=r"no config 'yours'.*\(mine\)"):
        find_config("yours", tmp_path)
