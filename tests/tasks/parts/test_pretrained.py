"""Training starts from a checkpoint laid out as BART's: what fits is loaded, what does not is told in a sentence."""

from __future__ import annotations

import pickle
from argparse import Namespace
from pathlib import Path

import pytest
import tiny_bart
import torch
from fairseq import checkpoint_utils

import rdrop_fairseq  # noqa: F401  (registers the task)
from rdrop_fairseq.errors import UserError
from rdrop_fairseq.tasks.parts import pretrained


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Dictionaries of 40 entries, and the four specials of fairseq."""
    folder = tmp_path_factory.mktemp("data")
    for side in ("source", "target"):
        (folder / f"dict.{side}.txt").write_text("".join(f"{number} 1\n" for number in range(40)))
    return folder


@pytest.mark.parametrize("option", ["--restore-file", "--finetune-from-model"])
@pytest.mark.parametrize("mask", [True, False])
@pytest.mark.parametrize("legacy", [True, False])
def test_fitting_checkpoint_is_loaded(data: Path, tmp_path: Path, option: str, mask: bool, legacy: bool) -> None:
    _, model = tiny_bart.task_and_model(data)
    path = tiny_bart.publish(model, tmp_path / "model.pt", mask, legacy)
    task, fresh = tiny_bart.task_and_model(data, option, str(path), "--save-dir", str(tmp_path))
    state = checkpoint_utils.load_checkpoint_to_cpu(str(path))
    fresh.load_state_dict(state["model"], strict=True, model_cfg=tiny_bart.config(data).model)
    torch.testing.assert_close(fresh.state_dict(), model.state_dict(), rtol=0, atol=0)
    assert len(task.source_dictionary) == 44


def bart_base(data: Path, folder: Path, further: str = "".join(f"madeupword{n:04} 0\n" for n in range(3, 9))) -> Path:
    """A checkpoint as bart.base: 6 dummy entries beyond the dictionary of the data, then <mask>; with its dict.txt."""
    folder.mkdir()
    path = tiny_bart.publish(tiny_bart.task_and_model(data)[1], folder / "model.pt", dummies=6)
    (folder / "dict.txt").write_text((data / "dict.source.txt").read_text() + further)
    return path


@pytest.mark.parametrize("option", ["--restore-file", "--finetune-from-model"])
def test_rows_of_dummy_entries_are_dropped(
    data: Path, tmp_path: Path, option: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = bart_base(data, tmp_path / "bart.base")
    state = checkpoint_utils.load_checkpoint_to_cpu(str(path))["model"]
    assert len(state["encoder.embed_tokens.weight"]) == 51
    with caplog.at_level("INFO"):
        _, model = tiny_bart.task_and_model(data, option, str(path), "--save-dir", str(tmp_path))
    assert caplog.text.count("7 rows of dummy dictionary entries (and <mask>) are dropped") == 1
    model.load_state_dict(state, strict=True, model_cfg=tiny_bart.config(data).model)
    for name, value in model.state_dict().items():
        known = state[name][:44] if name.endswith(pretrained.BY_ENTRY) else state[name]
        assert torch.equal(value, known), name
    assert pickle.loads(pickle.dumps(model)) is not None  # nothing about the model has become unfit for copies
    model.load_state_dict(model.state_dict(), strict=True)  # its own checkpoints, later


@pytest.mark.parametrize("further", ["", "madeupword0003 0\n", "".join(f"word{n} 5\n" for n in range(6))])
def test_rows_that_may_be_of_real_entries_are_not(data: Path, tmp_path: Path, further: str) -> None:
    said = refused(data, bart_base(data, tmp_path / "bart.base", further))
    assert "has 51 embeddings and the dictionary of the data has 44 entries" in said
    assert "put the dict.txt that came with it into its folder" in said


def refused(data: Path, path: Path, *words: str) -> str:
    with pytest.raises(UserError) as error:
        tiny_bart.task_and_model(data, "--restore-file", str(path), *words)
    return str(error.value)


def test_missing_checkpoint(data: Path, tmp_path: Path) -> None:
    # fairseq would train from random weights
    assert "there is no checkpoint" in refused(data, tmp_path / "model.pt")


@pytest.mark.parametrize("entries", [39, 42, 7])
def test_dictionary_of_another_size(data: Path, tmp_path: Path, entries: int) -> None:
    _, model = tiny_bart.task_and_model(data)
    path = tiny_bart.publish(model, tmp_path / "model.pt")  # 44 and <mask>
    other = tmp_path / "other"
    other.mkdir()
    for side in ("source", "target"):
        (other / f"dict.{side}.txt").write_text("".join(f"{number} 1\n" for number in range(entries)))
    said = refused(other, path)
    assert f"has 45 embeddings and the dictionary of the data has {entries + 4} entries" in said
    assert "dict.txt" in said


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--encoder-embed-dim", "8", "--decoder-embed-dim", "8"], "its embedding width is 16, that of the model is 8"),
        (["--decoder-layers", "2"], "its number of decoder layers is 1, that of the model is 2"),
        (["--encoder-layers", "3"], "its number of encoder layers is 1, that of the model is 3"),
        (["--max-source-positions", "32"], "its size of encoder.embed_positions.weight is 66, that of the model is 34"),
    ],
)
def test_another_architecture(data: Path, tmp_path: Path, words: list[str], message: str) -> None:
    path = tiny_bart.publish(tiny_bart.task_and_model(data)[1], tmp_path / "model.pt")
    assert message in refused(data, path, *words)


def test_no_encoder_decoder(data: Path, tmp_path: Path) -> None:
    torch.save({"args": Namespace(), "model": {"decoder.sentence_encoder.x": torch.zeros(1)}}, tmp_path / "roberta.pt")
    assert "is not an encoder-decoder checkpoint" in refused(data, tmp_path / "roberta.pt")


class RunsCode:
    def __reduce__(self) -> tuple:
        return print, ("code of a checkpoint was run",)


@pytest.mark.parametrize("legacy", [True, False])
def test_checkpoint_that_would_run_code(
    data: Path, tmp_path: Path, legacy: bool, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "model.pt"
    model = tiny_bart.task_and_model(data)[1].state_dict()
    whole = {"args": Namespace(extra=RunsCode()), "model": model}
    torch.save(whole, path, _use_new_zipfile_serialization=not legacy)
    assert "print" in refused(data, path)
    assert "code of a checkpoint was run" not in capfd.readouterr().out


def test_file_that_is_cut_short(data: Path, tmp_path: Path) -> None:
    path = tiny_bart.publish(tiny_bart.task_and_model(data)[1], tmp_path / "model.pt", legacy=False)
    path.write_bytes(path.read_bytes()[:-2000])
    assert str(path) in refused(data, path)
    path.write_bytes(pickle.dumps("no checkpoint"))
    assert str(path) in refused(data, path)


def test_a_run_that_has_begun_does_not_look_at_its_start_again(data: Path, tmp_path: Path) -> None:
    (tmp_path / "checkpoint_last.pt").touch()
    words = ["--finetune-from-model", str(tmp_path / "gone.pt"), "--save-dir", str(tmp_path)]
    assert tiny_bart.task_and_model(data, *words)[1] is not None
