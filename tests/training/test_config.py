"""Reading a config: flat, every key once, values as written."""

from __future__ import annotations

from pathlib import Path

import pytest

from rdrop_fairseq.errors import UserError
from rdrop_fairseq.training.config import find_config, names, read_config


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
    assert experiment.per_update == (4096, "tokens")


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
        experiment.per_update  # noqa: B018


def test_a_config_is_found_by_name_or_path(tmp_path: Path) -> None:
    (tmp_path / "configs").mkdir()
    path = config_file(tmp_path / "configs", "lr: 1\n")
    assert find_config("mine", tmp_path) == path
    assert find_config("mine.yaml", tmp_path) == path
    assert find_config(str(path), Path("elsewhere")) == path
    with pytest.raises(UserError, match=r"no config 'yours'.*\(mine\)"):
        find_config("yours", tmp_path)


FAMILY = """lr: 1
data: data/{TASK}
TASK:
  rte: {alpha: 1.0, lr: 2}
  cola: {alpha: 0.5}
SYSTEM:
  rdrop: {}
  baseline: {alpha: 0}
"""


@pytest.fixture
def family(tmp_path: Path) -> Path:
    (tmp_path / "configs" / "vit").mkdir(parents=True)
    (tmp_path / "configs" / "vit" / "TASK_SYSTEM.yaml").write_text(FAMILY)
    path = tmp_path / "configs" / "glue_TASK_small_SYSTEM.yaml"
    path.write_text(FAMILY)
    return path


def test_a_family_holds_many_experiments(family: Path) -> None:
    root = family.parents[1]
    assert names(root) == [f"glue_{t}_small_{s}" for t in ("cola", "rte") for s in ("baseline", "rdrop")]
    for name, expected in {
        "glue_rte_small_rdrop": {"lr": "2", "alpha": "1.0"},
        "glue_rte_small_baseline.yaml": {"lr": "2", "alpha": "0"},
        str(family.parent / "glue_cola_small_rdrop.yaml"): {"lr": "1", "alpha": "0.5"},
        "vit/cola_baseline": {"lr": "1", "alpha": "0"},
    }.items():
        experiment = read_config(find_config(name, root), name)
        assert {entry.key: entry.value for entry in experiment.options} == expected
        assert experiment.name == Path(name).name.removesuffix(".yaml")
        assert experiment.own["data"] == f"data/{'rte' if 'rte' in name else 'cola'}"


@pytest.mark.parametrize(
    ("text", "name", "message"),
    [
        (FAMILY, "glue_sst_small_rdrop", "has no sst in TASK: choose one of rte, cola"),
        (FAMILY, "glue_TASK_small_SYSTEM", r"many experiments: give the name of one of them \(glue_rte_small_"),
        ("lr: 1\nTASK:\n  rte: {}\n", "glue_rte_small_rdrop", "needs a table SYSTEM of words with options"),
        (FAMILY + "SIZE:\n  b: {lr: 1}\n", "glue_rte_small_rdrop", "line 9: 'SIZE' must have one plain value"),
        (FAMILY.replace("alpha: 0}", "fp16: true}"), "glue_rte_small_baseline", "line 8: fp16 does not belong"),
    ],
)
def test_what_is_refused_of_a_family(family: Path, text: str, name: str, message: str) -> None:
    family.write_text(text)
    with pytest.raises(UserError, match=message):
        read_config(find_config(name, family.parents[1]), name)
