"""Released models against their published scores: stand-in models in archives of the released layout."""

from __future__ import annotations

import io
import tarfile
from argparse import Namespace
from pathlib import Path
from typing import Any, Callable

import pytest
import small_news
import torch

from rdrop_fairseq.__main__ import main as command_line
from rdrop_fairseq.checks import score_published
from rdrop_fairseq.checks.score_published import TRANSLATIONS, bleu_rows, rouge_rows
from rdrop_fairseq.corpus import archives
from rdrop_fairseq.errors import UserError

pytestmark = pytest.mark.usefixtures("warm")


def bz2(path: Path, folder: Path, name: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w:bz2") as archive:
        archive.add(folder, name)


@pytest.fixture
def released(tmp_path: Path, tiny_data: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A mirror with both archives: an untrained model as of fairseq 0.6 (options in a Namespace, old file format)."""
    from fairseq import options, tasks
    from fairseq.dataclass.utils import convert_namespace_to_omegaconf

    words = [str(tiny_data), "--task", "translation", "--arch", "transformer_iwslt_de_en", "--share-all-embeddings"]
    words += ["-s", "de", "-t", "en", "--encoder-layers", "1", "--decoder-layers", "1", "--encoder-embed-dim", "16"]
    words += ["--decoder-embed-dim", "16", "--encoder-ffn-embed-dim", "16", "--decoder-ffn-embed-dim", "16"]
    args = options.parse_args_and_arch(options.get_training_parser(), words)
    cfg = convert_namespace_to_omegaconf(args)
    model = tasks.setup_task(cfg.task).build_model(cfg.model)
    plain = {name: value for name, value in vars(args).items() if isinstance(value, (str, int, float, type(None)))}
    state = {
        "args": Namespace(**plain),
        "model": model.state_dict(),
        "optimizer_history": [dict.fromkeys(("criterion_name", "optimizer_name"), "x") | {"lr_scheduler_state": {}}],
        "extra_state": {},
        "last_optimizer_state": None,
    }
    folder = tmp_path / "model"
    folder.mkdir()
    torch.save(state, folder / "model.pt", _use_new_zipfile_serialization=False)
    (folder / "bpecodes").write_text("#version: 0.2\n")
    name = "wmt16.en-de.joined-dict"
    mirror = tmp_path / "mirror"
    bz2(mirror / "fairseq" / "models" / f"{name}.transformer.tar.bz2", folder, f"{name}.transformer")
    bz2(mirror / "fairseq" / "data" / f"{name}.newstest2014.tar.bz2", tiny_data, f"{name}.newstest2014")
    monkeypatch.setenv("DATA_MIRROR", mirror.as_uri())
    return mirror


def test_translation_from_archives_to_verdict(
    released: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "data"
    words = ["score-published", "wmt14_en_de", "--data", str(data), "--", "--max-len-b", "5", "--cpu"]
    assert command_line(words) == 1  # an untrained model is not as good as the released one
    printed = capsys.readouterr()
    assert "translating test with beam 4, lenpen 0.6" in printed.err
    assert "compound-split                     29.29 published" in printed.out
    assert "sacrebleu                          28.60 published" in printed.out
    assert printed.out.endswith("the numbers do not hold: compound-split, sacrebleu\n")
    assert (data / "published" / "wmt14_en_de" / "scores.json").is_file()


def test_numbers_hold_within_a_tolerance_only() -> None:
    german = TRANSLATIONS["wmt14_en_de"]
    assert [row.holds for row in bleu_rows(german, {"compound-split": 29.1, "sacrebleu": 28.6})] == [True, True]
    assert [row.holds for row in bleu_rows(german, {"compound-split": 28.9, "sacrebleu": 28.8})] == [False, True]
    french = bleu_rows(TRANSLATIONS["wmt14_en_fr"], {"tokenized": 43.2, "sacrebleu": 41.4})
    assert [(row.name, row.published, row.holds) for row in french] == [
        ("tokenized", 43.2, True), ("sacrebleu", 41.4, True)
    ]  # fmt: skip


def test_fewer_articles_have_a_wider_margin() -> None:
    def found(mean: float) -> dict[str, Any]:
        return {"f1": {"mean": mean, "low": mean - 2, "high": mean + 2}}

    values = {"rouge1": found(46.0), "rouge2": found(21.0), "rougeLsum": found(38.0)}
    assert [row.published for row in rouge_rows(values, partial=True)] == [44.16, 21.28, 40.90]
    assert [row.holds for row in rouge_rows(values, partial=True)] == [True, True, False]
    assert [row.holds for row in rouge_rows(values, partial=False)] == [False, True, False]


def test_summaries_are_scored_with_stems_as_files2rouge_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """killed -> kill: words 4 of 5 and of 4, F 8/9; bigrams 3 of 4 and of 3, F 6/7."""
    (tmp_path / "text").mkdir()
    (tmp_path / "bin").mkdir()
    (tmp_path / "text/test.source").write_text("An article.\n")
    (tmp_path / "text/test.target").write_text("police killed the gunman .\n")
    summary = "Police kill the gunman today.\n"
    monkeypatch.setattr(score_published.pretrained_models, "fetch", lambda name, models: models / "model.pt")
    monkeypatch.setattr(score_published.summarize, "main", lambda words, prog: Path(words[4]).write_text(summary))
    monkeypatch.setattr(score_published, "cores", lambda: 1)
    rows = score_published.summaries(tmp_path, tmp_path, tmp_path / "out", None, [])
    assert [row.found for row in rows] == pytest.approx([800 / 9, 600 / 7, 800 / 9])


def test_summaries_from_archives_to_verdict(
    tmp_path: Path,
    gpt2_files: Path,
    story: Callable[[int], bytes],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A stand-in for bart.large.cnn in its layout, on the first articles of a small CNN/DailyMail, then on all."""
    small_news.news(tmp_path / "mirror", gpt2_files, story)
    monkeypatch.setenv("DATA_MIRROR", (tmp_path / "mirror").as_uri())
    data = tmp_path / "data"
    words = ["--out", str(data / "cnndm"), "--workers", "1", "--no-model"]
    assert command_line(["prepare", "cnndm", *words]) == 0
    published = data / "published" / "cnndm"
    for first, lines in ((["--first", "2"], 2), ([], 60)):
        words = ["score-published", "cnndm", "--data", str(data), *first, "--", "--beam", "1", "--max-len-b", "6"]
        assert command_line([*words, "--min-len", "1"]) == 1  # it has learnt nothing
        printed = capsys.readouterr().out
        assert printed.endswith("the numbers do not hold: rouge1, rouge2, rougeLsum\n")
        assert "rouge2                             21.28 published" in printed
        assert [len((published / name).read_text().splitlines()) for name in ("test.hyp", "test.target")] == [lines] * 2
    assert (data / "bart.large.cnn" / "model.pt").is_file()


def test_what_is_missing_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match=r"test\.source is missing: prepare the data first with scripts/prepare_cnndm"):
        score_published.main(["cnndm", "--data", str(tmp_path)], "score-published")
    with pytest.raises(UserError, match="--first takes"):
        score_published.main(["wmt14_en_de", "--first", "3"], "score-published")


def test_damaged_bzip2_is_no_archive(tmp_path: Path) -> None:
    path = tmp_path / "x.tar.bz2"
    with tarfile.open(path, "w:bz2") as archive:
        info = tarfile.TarInfo("a/b")
        info.size = 100_000
        archive.addfile(info, io.BytesIO(bytes(range(250)) * 400))
    archives.check(path)
    archives.unpack(path, tmp_path / "whole")
    assert (tmp_path / "whole" / "a" / "b").stat().st_size == 100_000
    data = path.read_bytes()
    middle = len(data) // 2
    flipped = bytes(byte ^ 255 for byte in data[middle : middle + 9])
    for broken in (data[:middle], data[:middle] + flipped + data[middle + 9 :]):
        path.write_bytes(broken)
        with pytest.raises(UserError, match="cut short or damaged"):
            archives.check(path)
