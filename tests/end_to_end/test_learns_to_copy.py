"""A tiny model trained with R-Drop from the first update learns to copy, and says so in its BLEU."""

from __future__ import annotations

from fairseq.logging import metrics
from tiny_fairseq import RDROP, session, write_corpus

LARGER = [
    *("--encoder-embed-dim", "64", "--decoder-embed-dim", "64", "--encoder-ffn-embed-dim", "128"),
    *("--decoder-ffn-embed-dim", "128", "--dropout", "0.1", "--share-all-embeddings", "--lr", "0.004"),
    *("--eval-bleu", "--eval-bleu-args", '{"beam": 1, "max_len_b": 10}'),
]


def bleu(run):
    """sacrebleu of the validation set, by fairseq's --eval-bleu."""
    dataset = run.task.dataset("valid")
    batch = dataset.collater([dataset[i] for i in range(len(dataset))])
    _, _, log = run.task.valid_step(batch, run.model, run.criterion)
    with metrics.aggregate(new_root=True) as meters:
        run.task.reduce_metrics([log], run.criterion)
    return meters.get_smoothed_values()["bleu"]


def test_learns_to_copy(tmp_path):
    data = write_corpus(tmp_path, train=1024, shortest=4, longest=7)
    run = session(data, "--task", "translation_rdrop", *RDROP, *LARGER, "--rdrop-alpha", "1")
    run.task.load_dataset("valid")
    assert bleu(run) < 10
    logged = run.updates(250, size=32)
    assert logged[-1]["nll_loss"] < 0.5 < logged[0]["nll_loss"]
    assert bleu(run) > 80
