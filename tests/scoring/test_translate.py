"""Finding the test set, its benchmark and its references; running fairseq-generate and noticing when it fails."""

import json
import struct
import sys

import pytest
import torch

from rdrop_fairseq import published
from rdrop_fairseq.errors import UserError
from rdrop_fairseq.scoring.text import read_reference
from rdrop_fairseq.scoring.translate import find_test_set, generate_command, translate


@pytest.fixture
def prepared(tmp_path):
    """A preparation's folder whose bin/ says that it has 7 English-German sentences, and a checkpoint for it."""

    def make(name="WMT14 en-de", pair="en-de", trained=("en", "de")):
        data = tmp_path / "prepared here" / "bin"
        data.mkdir(parents=True)
        for language in pair.split("-"):
            header = b"MMIDIDX\x00\x00" + struct.pack("<QBQ", 1, 8, 7)
            (data / f"test.{pair}.{language}.idx").write_bytes(header)
        (data.parent / "manifest.json").write_text(json.dumps({"name": name}))
        task = dict(zip(("source_lang", "target_lang"), trained))
        torch.save({"cfg": {"task": task}, "model": {"w": torch.ones(1)}}, tmp_path / "checkpoint.pt")
        return data, tmp_path / "checkpoint.pt"

    return make


def test_direction_from_the_checkpoint_and_size_from_the_data(prepared):
    data, checkpoint = prepared(trained=("de", "en"))
    found = find_test_set(data, "test", checkpoint)
    assert (found.source, found.target, found.sentences) == ("de", "en", 7)
    assert found.benchmark() is None  # German-English is no published direction of WMT14 here


@pytest.mark.parametrize(
    ("name", "pair", "benchmark"),
    [
        ("WMT14 en-de", "en-de", "wmt14.en-de"),
        ("IWSLT14 de-en", "de-en", "iwslt14.de-en"),
        ("IWSLT17 zh-en", "zh-en", "iwslt17.zh-en"),
        ("messages de-en", "de-en", None),
    ],
)
def test_benchmark_by_the_manifest_above_the_data(prepared, name, pair, benchmark):
    data, checkpoint = prepared(name, pair, pair.split("-"))
    assert find_test_set(data, "test", checkpoint).benchmark() == benchmark


def test_published_references_of_wmt(prepared):
    data, checkpoint = prepared()
    test_set = find_test_set(data, "test", checkpoint)
    assert test_set.plain_reference() is None
    sgm = data.parent / "orig" / "test-full" / "test-full" / "newstest2014-deen-ref.de.sgm"
    sgm.parent.mkdir(parents=True)
    sgm.write_text('<refset>\n<doc id="1">\n<p>\n<seg id="1"> Er sagt:  „A &amp; B“. </seg>\n</p></doc></refset>\n')
    assert test_set.plain_reference() == sgm
    assert read_reference(sgm) == ["Er sagt: „A &amp; B“."]
    sgm.write_text("<html>404</html>\n")
    with pytest.raises(UserError, match="has no <seg"):
        read_reference(sgm)


def test_data_that_is_not_for_this_checkpoint(prepared, tmp_path):
    data, checkpoint = prepared(trained=("fr", "en"))
    with pytest.raises(UserError, match=r"translates fr-en, but .* has no such test set"):
        find_test_set(data, "test", checkpoint)
    with pytest.raises(UserError, match=r"no binarized test2 set \(test2\.\*-\*\.\*\.idx\): choose one with --subset"):
        find_test_set(data, "test2", checkpoint)
    with pytest.raises(UserError, match="is not a directory: give the binarized data directory first"):
        find_test_set(checkpoint, "test", checkpoint)


@pytest.mark.parametrize("cuda", [True, False])
def test_half_precision_on_a_gpu_else_the_cpu(prepared, monkeypatch, cuda):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    data, checkpoint = prepared()
    found = find_test_set(data, "test", checkpoint)
    command = generate_command(found, [checkpoint] * 2, published.Decoding(4, 0.6), ["--max-tokens", "9"])
    assert command[command.index("--path") + 1] == f"{checkpoint}:{checkpoint}"
    assert ("--fp16" in command, "--cpu" in command) == (cuda, not cuda)
    assert command[-2:] == ["--max-tokens", "9"]
    assert command[command.index("--lenpen") + 1] == "0.6"


def test_a_run_that_fails_or_stops_early(tmp_path):
    def run(code, sentences=None):
        return translate([sys.executable, "-c", code], tmp_path / "out", sentences)

    with pytest.raises(UserError, match=r"stopped with status 3 \(CUDA out of memory\).* -- --max-tokens"):
        run("import sys; print('H-0\\t-1\\ta'); print('50%\\r\\nCUDA out of memory\\n', file=sys.stderr); sys.exit(3)")
    with pytest.raises(UserError, match=r"^checkpoint a has .*: give another$"):  # ours: it has a way out
        run("import sys; sys.exit('x.errors.UserError: checkpoint a has other words: give another')")
    with pytest.raises(UserError, match="stopped with status -9"):
        run("import os; os.kill(os.getpid(), 9)")
    with pytest.raises(UserError, match="did not finish"):
        run("print('H-0\\t-1\\ta')")
    with pytest.raises(UserError, match="no hypothesis for 6 of 7"):
        run("print('H-0\\t-1\\ta'); print('Generate test with beam=5: BLEU4 = 1')", 7)
    assert run("print('H-0\\t-1\\t\\u00e4'); print('Generate test with beam=5: BLEU4 = 1')", 1).hypotheses == ["ä"]
