"""The summarization task on a tiny BART: truncation, ROUGE in validation, R-Drop, activation checkpoints."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path
from typing import Any

import pytest
import tiny_bart
import tiny_fairseq
import torch
from fairseq import utils
from fairseq.data import Dictionary
from fairseq.logging import metrics
from rouge_score.rouge_scorer import RougeScorer

import rdrop_fairseq  # noqa: F401  (registers the task)
from rdrop_fairseq.corpus.gpt2_bpe import Gpt2Bpe
from rdrop_fairseq.errors import UserError
from rdrop_fairseq.tasks.parts.truncation import TruncatedDataset, truncate
from rdrop_fairseq.tasks.parts.validation_rouge import batches_of

EOS = 2
GENERATION = '{"beam": 2, "max_len_b": 8}'
TEXT = [("Ann won the race.", "Ann won"), ("", "nobody"), ("People in Oslo saw Bob. " * 12, "Bob. In Oslo"), ("x", "x")]


@pytest.fixture(scope="module")
def data(gpt2_files: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data directory: TEXT as train and valid."""
    folder = tmp_path_factory.mktemp("data")
    tiny_bart.copy_vocabulary(gpt2_files, folder)
    dictionary = Dictionary.load(str(gpt2_files / "dict.txt"))
    bpe = Gpt2Bpe(gpt2_files / "encoder.json", gpt2_files / "vocab.bpe")

    def ids(text: str) -> list[int]:
        return dictionary.encode_line(bpe.encode_line(text), add_if_not_exist=False).tolist()

    pairs = [(ids(article), ids(summary)) for article, summary in TEXT]
    for split in ("train", "valid"):
        tiny_bart.write_split(folder, split, pairs)
    return folder


def batch(task: Any, split: str = "train") -> dict[str, Any]:
    """All pairs of a split in one batch."""
    task.load_dataset(split)
    dataset = task.datasets[split]
    return dataset.collater([dataset[index] for index in range(len(dataset))])


def test_truncation_keeps_the_end_of_sentence() -> None:
    article = torch.tensor([5, 6, 7, 8, EOS])
    assert truncate(article, 5, EOS) is article
    assert truncate(article, 4, EOS).tolist() == [5, 6, 7, EOS]
    assert truncate(article, 2, EOS).tolist() == [5, EOS]
    assert truncate(article[:4], 3, EOS).tolist() == [5, 6, 7]  # there was none to keep
    assert truncate(article[4:], 4, EOS).tolist() == [EOS]


@pytest.mark.parametrize("length", [2, 9, 64])
def test_articles_of_a_data_set(data: Path, length: int) -> None:
    whole = tiny_bart.task_and_model(data)[0]
    whole.load_dataset("train")
    task, _ = tiny_bart.task_and_model(data, "--truncate-source-length", str(length))
    task.load_dataset("train")
    dataset = task.datasets["train"]
    assert isinstance(dataset.src, TruncatedDataset)
    lengths = []
    for index in range(len(TEXT)):
        source, full = dataset[index]["source"], whole.datasets["train"].src.dataset[index]
        assert source[-1] == EOS
        assert torch.equal(source[:-1], full[: min(len(full), length) - 1])
        assert dataset.src.size(index) == dataset.src.num_tokens(index) == len(source)
        lengths.append(len(source))
    # The sizes that batches are made by are the true ones, which fairseq's --truncate-source gets wrong by one.
    assert dataset.src_sizes.tolist() == lengths == dataset.src.sizes.tolist()
    assert max(lengths) == length  # one article is longer than all of them
    assert dataset.sizes[:, 0].tolist() == lengths


def test_default_length_is_what_the_model_reads(data: Path) -> None:
    task, model = tiny_bart.task_and_model(data)
    sample = batch(task)
    assert sample["net_input"]["src_tokens"].shape[1] == 64 == model.max_positions()[0]
    assert torch.isfinite(model(**sample["net_input"])[0]).all()


def test_articles_for_generation_are_truncated_too(data: Path) -> None:
    task, _ = tiny_bart.task_and_model(data, "--truncate-source-length", "4")
    articles = [torch.tensor([5, 6, 7, 8, 9, EOS]), torch.tensor([EOS])]
    dataset = task.build_dataset_for_inference(articles, [6, 1])
    assert [dataset[index]["source"].tolist() for index in (0, 1)] == [[5, 6, 7, EOS], [EOS]]
    assert dataset.src_sizes.tolist() == [4, 1]


@pytest.mark.parametrize("length", ["1", "65", "-3"])
def test_impossible_length(data: Path, length: str) -> None:
    with pytest.raises(UserError, match="between 2 and --max-source-positions 64"):
        tiny_bart.task_and_model(data, "--truncate-source-length", length)


def validate(task: Any, logs: list[dict[str, Any]], criterion: Any) -> dict[str, float]:
    metrics.reset()
    with metrics.aggregate() as found:
        task.reduce_metrics(logs, criterion)
    return found.get_smoothed_values()


def test_rouge_of_the_validation_set(data: Path) -> None:
    task, model = tiny_bart.task_and_model(data, "--eval-rouge", "--eval-rouge-args", GENERATION)
    criterion = task.build_criterion(tiny_bart.config(data).criterion)
    task.load_dataset("valid")
    dataset = task.datasets["valid"]
    samples = [dataset.collater([dataset[index] for index in part]) for part in ((0, 1), (2,), (3,))]
    model.eval()
    logs = [task.valid_step(sample, model, criterion)[2] for sample in samples]
    found = validate(task, logs, criterion)

    scorer = RougeScorer(["rouge1", "rouge2", "rougeL"])
    bpe = Gpt2Bpe(data / "encoder.json", data / "vocab.bpe")
    generator = task.validation_rouge.generator
    f1: dict[str, list[float]] = {"rouge1": [], "rouge2": [], "rougeL": []}
    for sample in samples:
        for index, hypotheses in zip(sample["id"].tolist(), task.inference_step(generator, [model], sample)):
            summary = bpe.decode_line(task.tgt_dict.string(hypotheses[0]["tokens"]))
            for name, score in scorer.score(TEXT[index][1], summary).items():
                f1[name].append(score.fmeasure)
    for name, values in f1.items():
        assert found[name] == pytest.approx(100 * sum(values) / len(TEXT), abs=0.006)
    assert 0 <= found["rougeLsum"] <= 100

    # Batches one after the other, as in one process, give what the same batches of several workers give together.
    metrics.reset()
    with metrics.aggregate() as meters:
        for log in logs:
            task.reduce_metrics([log], criterion)
    for name in (*f1, "rougeLsum"):
        assert meters.get_smoothed_values()[name] == found[name]


def test_rouge_of_the_first_articles_in_batches_of_their_own(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["--eval-rouge", "--eval-rouge-args", GENERATION, "--eval-rouge-max-tokens", "64"]
    task, model = tiny_bart.task_and_model(data, *words, "--eval-rouge-articles", "3")
    criterion = task.build_criterion(tiny_bart.config(data).criterion)
    sample = batch(task, "valid")
    model.eval()
    task.begin_valid_epoch(1, model)
    logs = [task.valid_step(sample, model, criterion)[2] for _ in range(2)]
    assert [log.get("_rouge_count") for log in logs] == [3, None]
    dataset = task.datasets["valid"]
    sums = [task.validation_rouge(dataset.collater([dataset[index]]), model) for index in range(3)]
    for name in ("_rouge1", "_rougeLsum"):
        assert logs[0][name] == pytest.approx(sum(each[name] for each in sums))

    # fairseq repeats a step that ran out of memory once, and so does ROUGE
    task.begin_valid_epoch(2, model)
    first = task.validation_rouge.first
    monkeypatch.setattr(task.validation_rouge, "first", out_of_memory)
    with pytest.raises(RuntimeError, match="out of memory"):
        task.valid_step(sample, model, criterion)
    monkeypatch.setattr(task.validation_rouge, "first", first)
    assert task.valid_step(sample, model, criterion)[2]["_rouge_count"] == 3


def out_of_memory(*_: Any) -> None:
    raise RuntimeError("out of memory")


def one_of_two_workers(rank: int, folder: str, data: Path) -> None:
    """Validates with fairseq's trainer, on a set of one batch, and saves the sums of ROUGE."""
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    cfg = tiny_bart.config(
        data, "--eval-rouge", "--eval-rouge-args", GENERATION, "--eval-rouge-articles", "99", "--max-tokens-valid",
        "512", "--eval-rouge-max-tokens", "64", "--distributed-world-size", "2", "--distributed-no-spawn",
        "--ddp-backend", "legacy_ddp", "--num-workers", "0",
    )  # fmt: skip
    cfg.distributed_training.distributed_rank = rank
    trainer = tiny_fairseq.start(cfg, ("valid",)).trainer
    trainer.begin_valid_epoch(1)
    batches = list(trainer.get_valid_iterator("valid").next_epoch_itr(shuffle=False))
    assert [len(sample) > 0 for sample in batches] == [rank == 0]
    with metrics.aggregate(new_root=True) as found:
        trainer.valid_step(batches[0])
    torch.save({name: found[name].sum for name in ("_rouge_count", "_rouge1")}, f"{folder}/{rank}")
    torch.distributed.destroy_process_group()


def test_rouge_of_the_first_articles_with_more_workers_than_batches(data: Path, tmp_path: Path) -> None:
    """fairseq drops what a worker without a batch logs; it has summarized its share of the articles all the same."""
    context = torch.multiprocessing.get_context("fork")
    workers = [context.Process(target=one_of_two_workers, args=(rank, str(tmp_path), data)) for rank in (0, 1)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(120)
    assert [worker.exitcode for worker in workers] == [0, 0]
    found = [torch.load(tmp_path / str(rank)) for rank in (0, 1)]
    assert found[0] == found[1]
    assert found[0]["_rouge_count"] == len(TEXT)


def test_batches_for_rouge() -> None:
    assert batches_of([3, 9, 4, 1, 4], 8) == [[1], [2, 4], [0, 3]]
    assert batches_of([], 8) == []


def test_a_perfect_summary_has_rouge_100(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    task, model = tiny_bart.task_and_model(data, "--eval-rouge", "--eval-rouge-args", GENERATION)
    criterion = task.build_criterion(tiny_bart.config(data).criterion)
    sample = batch(task, "valid")
    references = [[{"tokens": utils.strip_pad(target, 1)}] for target in sample["target"]]
    monkeypatch.setattr(task, "inference_step", lambda *args, **kwargs: references)
    found = validate(task, [task.valid_step(sample, model.eval(), criterion)[2]], criterion)
    # "x" and "nobody" have no bigram, and count as 0 there.
    assert (found["rouge1"], found["rouge2"], found["rougeL"], found["rougeLsum"]) == (100, 50, 100, 100)


def test_without_eval_rouge_nothing_is_generated(data: Path) -> None:
    task, model = tiny_bart.task_and_model(data)
    criterion = task.build_criterion(tiny_bart.config(data).criterion)
    log = task.valid_step(batch(task, "valid"), model.eval(), criterion)[2]
    assert "rouge1" not in validate(task, [log], criterion)


def test_generating_leaves_no_trace_on_the_model(data: Path) -> None:
    # fairseq's own translation task fails here: sentences would attend to the articles of their neighbours.
    torch.manual_seed(1)
    _, untouched = tiny_bart.task_and_model(data)
    torch.manual_seed(1)
    task, model = tiny_bart.task_and_model(data, "--eval-rouge", "--eval-rouge-args", GENERATION)
    sample = batch(task, "valid")
    expected = untouched.eval()(**sample["net_input"])[0]
    assert torch.equal(model.eval()(**sample["net_input"])[0], expected)
    first = task.validation_rouge(sample, model)
    assert torch.equal(model(**sample["net_input"])[0], expected)
    greedy = task.build_generator([model], Namespace(beam=1, max_len_b=8))
    assert len(task.inference_step(greedy, [model], sample)) == len(TEXT)
    assert task.validation_rouge(sample, model) == first


def test_half_precision_model_generates(data: Path) -> None:
    task, model = tiny_bart.task_and_model(data, "--eval-rouge", "--eval-rouge-args", GENERATION)
    sums = task.validation_rouge(batch(task, "valid"), model.bfloat16().eval())
    assert sums["_rouge_count"] == len(TEXT)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--eval-rouge-args", "beam 4"], "--eval-rouge-args 'beam 4': .*give JSON"),
        (["--eval-rouge-articles", "-1"], "--eval-rouge-articles -1: give 0 or more"),
        (["--eval-rouge-bpe", "nowhere"], r"--eval-rouge needs encoder\.json and vocab\.bpe in nowhere"),
    ],
)
def test_what_eval_rouge_cannot_work_with(data: Path, words: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        tiny_bart.task_and_model(data, "--eval-rouge", *words)


NO_DROPOUT = ["--dropout", "0", "--attention-dropout", "0", "--activation-dropout", "0"]


@pytest.mark.parametrize("kind", ["dropout", "attention-dropout", "activation-dropout"])
def test_every_kind_of_dropout_tells_the_views_apart(data: Path, kind: str) -> None:
    for rate in ("0", "0.3"):
        words = [*NO_DROPOUT, f"--{kind}", rate]
        task, model = tiny_bart.task_and_model(data, *words)
        criterion = task.build_criterion(tiny_bart.config(data, *words).criterion)
        loss, _, log = criterion(model.train(), batch(task))
        loss.backward()
        assert (log["rdrop_kl"] > 0) == (rate == "0.3")
        assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)
