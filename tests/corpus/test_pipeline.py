from __future__ import annotations

import gzip
import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from rdrop_fairseq.corpus import manifest
from rdrop_fairseq.corpus.pipeline import Pipeline
from rdrop_fairseq.errors import UserError


class Chain:
    """in.txt -upper-> upper.txt -twice-> {a,b}.txt -count-> a folder; remembers what was done."""

    def __init__(self, folder: Path, kill_in: str = "", kill_after: str = "") -> None:
        self.folder, self.kill_in, self.kill_after = folder, kill_in, kill_after
        self.done: list[str] = []

    def run(self, times: int = 2, suffix: str = "") -> dict:
        pipeline = Pipeline(self.folder, "chain", {"times": times, "suffix": suffix})
        given, upper = self.folder / "in.txt", self.folder / "upper.txt"
        pair = [self.folder / "a.txt", self.folder / "b.txt"]

        def make_upper(parts):
            self.begin("upper")
            parts[0].write_text(given.read_text().upper())
            self.end("upper")
            return {"lines": 1}

        def repeat(parts):
            self.begin("repeat")
            parts[0].write_text(upper.read_text() * times)
            self.end("repeat")
            parts[1].write_text(upper.read_text())

        def folder(parts):
            self.begin("folder")
            parts[0].mkdir()
            (parts[0] / "n.txt").write_text(str(len(pair[0].read_text())) + suffix)
            self.end("folder")

        pipeline.step("upper", [upper], make_upper, [given])
        pipeline.step("repeat", pair, repeat, [upper], {"times": times, "of": ("a", "b")})
        pipeline.step("folder", [self.folder / "out"], folder, pair, {"suffix": suffix})
        return pipeline.finish()

    def begin(self, step: str) -> None:
        self.done.append(step)
        if self.kill_in == step:
            os.kill(os.getpid(), signal.SIGKILL)

    def end(self, step: str) -> None:
        if self.kill_after == step:
            os.kill(os.getpid(), signal.SIGKILL)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "in.txt").write_text("abc")
    return tmp_path


def steps_done(folder, **options):
    chain = Chain(folder)
    chain.run(**options)
    return chain.done


def test_everything_is_done_once(folder):
    assert steps_done(folder) == ["upper", "repeat", "folder"]
    assert steps_done(folder) == []
    assert (folder / "out/n.txt").read_text() == "6"


def test_an_option_redoes_what_depends_on_it_and_nothing_else(folder):
    steps_done(folder)
    assert steps_done(folder, suffix="!") == ["folder"]
    assert steps_done(folder, suffix="!", times=3) == ["repeat", "folder"]
    assert (folder / "out/n.txt").read_text() == "9!"
    assert steps_done(folder) == ["repeat", "folder"]


def test_a_changed_input_redoes_what_depends_on_it(folder):
    steps_done(folder)
    (folder / "in.txt").write_text("abcd")
    assert steps_done(folder) == ["upper", "repeat", "folder"]
    (folder / "in.txt").write_text("ABCD")  # same upper case: what follows is the same too
    assert steps_done(folder) == ["upper"]


@pytest.mark.parametrize(
    ("name", "redone"), [("upper.txt", ["upper"]), ("b.txt", ["repeat"]), ("out/n.txt", ["folder"])]
)
def test_an_output_that_was_lost_or_changed_is_made_again(folder, name, redone):
    steps_done(folder)
    before = (folder / name).read_text()
    (folder / name).unlink()
    assert steps_done(folder) == redone
    (folder / name).write_text(before[::-1] + "x")
    assert steps_done(folder) == redone
    assert (folder / name).read_text() == before


def test_a_copied_folder_needs_no_work(folder, tmp_path_factory):
    steps_done(folder)
    copy = tmp_path_factory.mktemp("copy") / "c"
    subprocess.run(["cp", "-r", str(folder), str(copy)], check=True)
    assert steps_done(copy) == []


@pytest.mark.parametrize("where", ["kill_in", "kill_after"])
@pytest.mark.parametrize("step", ["upper", "repeat", "folder"])
def test_after_kill_9_the_next_run_goes_on(folder, where, step):
    child = os.fork()
    if child == 0:
        Chain(folder, **{where: step}).run()
        os._exit(0)
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
    order = ["upper", "repeat", "folder"]
    assert steps_done(folder) == order[order.index(step) :]
    assert sorted(p.name for p in folder.iterdir()) == ["a.txt", "b.txt", "in.txt", "manifest.json", "out", "upper.txt"]
    assert (folder / "a.txt").read_text() == "ABCABC"


def test_a_second_process_waits_for_the_first(folder, capsys):
    ready, begun = os.pipe()
    child = os.fork()
    if child == 0:
        chain = Chain(folder)
        chain.begin = lambda step: (os.write(begun, b"x"), time.sleep(0.1))
        chain.run()
        os._exit(0)
    os.read(ready, 1)
    assert steps_done(folder) == []
    assert os.waitpid(child, 0)[1] == 0
    assert f"another process works in {folder}: waiting for it" in capsys.readouterr().err
    assert not (folder / ".lock").exists()


def test_killed_between_two_moves_the_step_is_not_believed(folder, monkeypatch):
    """First times=2 whole, then a run with times=3 that dies when one of its two outputs is in place."""
    steps_done(folder)
    from rdrop_fairseq import files

    move = files.move_into_place

    def dies(part, path):
        if path.name == "b.txt":
            raise KeyboardInterrupt
        move(part, path)

    monkeypatch.setattr(files, "move_into_place", dies)
    with pytest.raises(KeyboardInterrupt):
        Chain(folder).run(times=3)
    monkeypatch.undo()
    assert steps_done(folder) == ["repeat"]  # the same text again, so "folder" holds
    assert (folder / "a.txt").read_text() == "ABCABC"


def test_a_failing_step_leaves_no_half_written_file(folder):
    pipeline = Pipeline(folder, "x", {})

    def fails(parts):
        parts[0].write_text("half")
        raise UserError("no")

    with pytest.raises(UserError, match="no"):
        pipeline.step("x", [folder / "o.txt"], fails)
    assert sorted(p.name for p in folder.iterdir()) == [".lock", "in.txt", "manifest.json"]


def test_the_manifest_says_it_all(folder, monkeypatch):
    mirror = folder / "mirror"
    mirror.mkdir()
    (mirror / "in.gz").write_bytes(gzip.compress(b"abc"))
    monkeypatch.setenv("DATA_MIRROR", f"file://{mirror}")
    pipeline = Pipeline(folder / "p", "my corpus", {"bpe": 10})
    archive = pipeline.download(["http://x.invalid/in.gz"], folder / "p/orig/in.gz")
    pipeline.step("size", [folder / "p/n"], lambda parts: {"bytes": parts[0].write_text("3")}, [archive], {"o": 1})
    pipeline.finish({"train": 3}, {"train": manifest.Known(3)})
    found = json.loads((folder / "p/manifest.json").read_text())
    assert found["name"] == "my corpus"
    assert found["complete"] is True
    assert found["options"] == {"bpe": 10}
    assert {"python", "rdrop-fairseq", "sacremoses", "subword-nmt"} <= set(found["versions"])
    [(name, given)] = found["inputs"].items()
    assert (name, given["url"], given["size"]) == ("in.gz", f"file://{mirror}/in.gz", archive.stat().st_size)
    assert given["published_at"] == ["http://x.invalid/in.gz"]
    assert len(given["sha256"]) == 64
    [step] = found["steps"]
    assert step["counts"] == {"bytes": 1}
    assert step["inputs"] == [{"path": "orig/in.gz", "sha256": given["sha256"]}]
    assert step["options"] == {"o": 1}
    assert found["known_counts"]["train"]["within_1_percent"] is True


def test_an_unfinished_manifest_says_so(folder):
    pipeline = Pipeline(folder, "x", {})
    pipeline.step("x", [folder / "o.txt"], lambda parts: parts[0].touch())
    assert json.loads((folder / "manifest.json").read_text())["complete"] is False


@pytest.mark.parametrize(
    ("found", "known", "right"),
    [
        (101, manifest.Known(100), True),
        (102, manifest.Known(100), False),
        (98, manifest.Known(100), False),
        (3_961_179, manifest.Known(4_000_000, rounded_to=100_000), True),
        (3_909_000, manifest.Known(4_000_000, rounded_to=100_000), False),
    ],
)
def test_known_counts(capsys, found, known, right):
    table = manifest.compare({"train": found}, {"train": known})
    assert table["train"]["within_1_percent"] is right
    manifest.warn("corpus", table)
    assert ("WARNING: corpus: train has" in capsys.readouterr().err) is not right


def test_a_broken_manifest_is_named(folder):
    (folder / "manifest.json").write_text("{")
    with pytest.raises(UserError, match=r"manifest\.json is not readable as JSON"):
        Pipeline(folder, "x", {})
