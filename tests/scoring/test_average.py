"""Averaging: the mean, what is refused, what the file holds. Oracle: fairseq's rule, sum of w.float() over n."""

import argparse
import sys

import pytest
import torch
from tiny_training import succeed

from rdrop_fairseq.errors import UserError
from rdrop_fairseq.scoring.average import average, main


def save_state(path, weights, arch="transformer", **model_options):
    cfg = {"model": argparse.Namespace(arch=arch, **model_options)}
    state = {"cfg": cfg, "args": None, "model": weights, "optimizer_history": [{}], "extra_state": {"epoch": 3}}
    torch.save({**state, "last_optimizer_state": {"state": torch.zeros(3)}}, path)
    return path


def averaged(tmp_path, *models, **options):
    paths = [save_state(tmp_path / f"checkpoint{i}.pt", model, **options) for i, model in enumerate(models, 1)]
    average(paths, tmp_path / "out.pt")
    return torch.load(tmp_path / "out.pt", weights_only=False)


def test_the_mean_by_hand(tmp_path):
    state = averaged(tmp_path, *({"w": torch.tensor([x, 2 * x])} for x in (1.0, 2.0, 6.0)))
    assert state["model"]["w"].tolist() == [3.0, 6.0]
    assert "last_optimizer_state" not in state
    assert state["extra_state"] == {"epoch": 3}
    assert state["averaged_from"] == ["checkpoint1.pt", "checkpoint2.pt", "checkpoint3.pt"]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_equals_fairseqs_rule_and_keeps_the_type(tmp_path, dtype):
    # in fp16 60000 + 60000 would overflow
    models = [{"w": torch.randn(50, 7).to(dtype), "b": 50000 + 10000 * torch.rand(7).to(dtype)} for _ in range(5)]
    result = averaged(tmp_path, *models)["model"]
    for name in ("w", "b"):
        total = models[0][name].clone() if dtype == torch.float64 else models[0][name].float()
        for model in models[1:]:
            total = total + model[name]
        expected = total / 5
        assert result[name].dtype == dtype
        assert torch.equal(result[name], expected.to(dtype))


def test_whole_numbers_and_booleans_come_from_the_last(tmp_path):
    models = [{"w": torch.tensor([x]), "n": torch.tensor(int(x)), "b": torch.tensor([x > 1])} for x in (1.0, 4.0)]
    result = averaged(tmp_path, *models)["model"]
    assert (result["w"].item(), result["n"].item(), result["b"].item()) == (2.5, 4, True)
    assert result["n"].dtype == torch.int64


def test_tied_weights_stay_tied_and_are_counted_once(tmp_path):
    def tied(x):
        weight = torch.full((100, 100), x)
        return {"a": weight, "b": weight, "c": torch.full((100, 100), -x)}

    result = averaged(tmp_path, tied(1.0), tied(3.0))["model"]
    assert [result[name][0, 0].item() for name in "abc"] == [2.0, 2.0, -2.0]
    assert result["a"].data_ptr() == result["b"].data_ptr() != result["c"].data_ptr()


def test_weights_tied_in_one_checkpoint_only_are_averaged_apart(tmp_path):
    one, two = torch.tensor([1.0]), torch.tensor([3.0])
    apart = {"a": torch.tensor([5.0]), "b": torch.tensor([7.0])}
    result = averaged(tmp_path, {"a": one, "b": one}, apart, {"a": two, "b": two})["model"]
    assert [result["a"].item(), result["b"].item()] == [3.0, pytest.approx(11 / 3)]


BASE = {"w": torch.ones(2, 3), "v": torch.ones(1)}


@pytest.mark.parametrize(
    ("second", "message"),
    [
        ({"w": torch.ones(2, 3)}, r"checkpoint2\.pt lacks the weight v"),
        ({**BASE, "x": torch.ones(1)}, r"checkpoint1\.pt lacks the weight x, which .*checkpoint2\.pt has"),
        ({**BASE, "w": torch.ones(3, 2)}, r"checkpoint2\.pt: the weight w is \(3, 2\), in .* \(2, 3\)"),
        ({**BASE, "v": torch.tensor([float("nan")])}, r"checkpoint2\.pt: the weight v has NaN or infinite"),
        ({**BASE, "w": torch.full((2, 3), float("-inf"))}, r"checkpoint2\.pt: the weight w has NaN or infinite"),
        ({**BASE, "v": torch.ones(1, dtype=torch.int64)}, r"checkpoint2\.pt: the weight v is torch\.int64"),
    ],
)
def test_what_does_not_fit_is_refused_with_file_and_weight(tmp_path, second, message):
    with pytest.raises(UserError, match=message):
        averaged(tmp_path, BASE, second)
    assert not (tmp_path / "out.pt").exists()
    if "NaN" in message:
        with pytest.raises(UserError, match=message.replace("checkpoint2", "checkpoint1")):
            averaged(tmp_path, second, BASE)


@pytest.mark.parametrize("change", [{"arch": "transformer_big"}, {"encoder_attention_heads": 8}])
def test_mixed_architectures_are_refused_though_the_shapes_agree(tmp_path, change):
    paths = [
        save_state(tmp_path / "a.pt", BASE, **{"arch": "transformer", "encoder_attention_heads": 4}),
        save_state(tmp_path / "b.pt", BASE, **{"arch": "transformer", "encoder_attention_heads": 4, **change}),
    ]
    with pytest.raises(UserError, match=rf"b\.pt has {next(iter(change))} .*: average one model only"):
        average(paths, tmp_path / "out.pt")


class Evil:
    def __reduce__(self):
        return (print, ("code ran",))


def test_files_that_are_no_checkpoints(tmp_path, capsys):
    bad = tmp_path / "bad.pt"
    torch.save({"model": BASE, "x": Evil()}, bad)
    with pytest.raises(UserError, match=r"bad\.pt is refused: it holds .*print"):
        average([bad], tmp_path / "out.pt")
    assert "code ran" not in capsys.readouterr().out
    whole = save_state(tmp_path / "whole.pt", BASE).read_bytes()
    for content in (b"", b"<html>404</html>", whole[: len(whole) // 2]):
        bad.write_bytes(content)
        with pytest.raises(UserError, match=r"bad\.pt is not (whole|a readable checkpoint)"):
            average([bad], tmp_path / "out.pt")
    for content in ([1], {"weights": {}}, {"model": {"w": 1}}):
        torch.save(content, bad)
        with pytest.raises(UserError, match="not a checkpoint of fairseq-train"):
            average([bad], tmp_path / "out.pt")
    with pytest.raises(UserError, match=r"absent\.pt is not there"):
        average([tmp_path / "absent.pt"], tmp_path / "out.pt")
    assert not (tmp_path / "out.pt").exists()


def test_the_old_file_format_is_read_too(tmp_path):
    path = save_state(tmp_path / "new.pt", BASE)
    torch.save(torch.load(path, weights_only=False), tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    average([path, tmp_path / "old.pt"], tmp_path / "out.pt")
    assert torch.load(tmp_path / "out.pt", weights_only=False)["model"]["w"].tolist() == BASE["w"].tolist()


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    out = tmp_path / "out.pt"
    out.write_bytes(b"before")
    monkeypatch.setattr(torch, "save", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    path = tmp_path / "a.pt"
    path.write_bytes(b"")
    monkeypatch.setattr("rdrop_fairseq.checkpoint.load", lambda _: {"model": dict(BASE)})
    with pytest.raises(UserError, match="disk is full"):
        average([path], out)
    assert out.read_bytes() == b"before"
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a.pt", "out.pt"]


def test_command_line(tmp_path):
    for number in range(1, 5):
        save_state(tmp_path / f"checkpoint{number}.pt", {"w": torch.tensor([float(number)])})
    main([str(tmp_path), "--last", "3", "--output", str(tmp_path / "deep" / "avg.pt")], "average")
    assert torch.load(tmp_path / "deep" / "avg.pt", weights_only=False)["model"]["w"].item() == 3.0
    with pytest.raises(UserError, match="is a directory: say which"):
        main([str(tmp_path), "--output", str(tmp_path / "avg.pt")], "average")
    with pytest.raises(UserError, match="from one directory"):
        main([str(tmp_path), str(tmp_path), "--best", "2", "--output", str(tmp_path / "avg.pt")], "average")


# argv: as `python -m rdrop_fairseq` has it, so that importing the package does not import fairseq. VmHWM: unlike
# ru_maxrss, not inherited from the process that started this one.
PEAK = """
import sys
words, sys.argv = sys.argv[1:], ["-m"]
from rdrop_fairseq.scoring.average import main
main(words, "average")
print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")))
"""


def test_memory_does_not_grow_with_the_number_of_checkpoints(tmp_path):
    megabytes = 64
    paths = [save_state(tmp_path / f"{i}.pt", {"w": torch.full((megabytes << 18,), float(i))}) for i in range(8)]

    def peak(count):
        words = [*paths[:count], "--output", tmp_path / "out.pt"]
        return int(succeed(sys.executable, "-c", PEAK, *words)) / 1024

    # Six checkpoints more; what varies, by one or two, is when the allocator gives memory back.
    assert peak(8) - peak(2) < 3 * megabytes
