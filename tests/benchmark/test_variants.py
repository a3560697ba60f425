"""The benchmark of the variants: each is what its name says, beside plain training and plain R-Drop."""

from __future__ import annotations

import csv

import pytest

from rdrop_fairseq.benchmark import variants

TINY = {"width": 16, "ffn": 16, "classes": 200, "tokens": 100}


@pytest.mark.parametrize(
    ("name", "encoder", "decoder"),
    [
        (variants.PLAIN, 1, 1),
        (variants.RDROP, 2, 2),
        ("R-Drop, 3 passes", 3, 3),
        ("R-Drop, shared encoder", 1, 2),
        ("Cutoff", 2, 2),
    ],
)
def test_rows_that_pass_through_encoder_and_decoder(name, encoder, decoder):
    """Of a step, in batches; stacked views count as many."""
    trainee = variants.make_trainee(name, "1+2", TINY)
    seen = {"encoder": 0, "decoder": 0}

    def count(side):
        def hook(module, args, output):
            seen[side] += args[0].shape[1]  # T x B x d

        return hook

    model = trainee.model
    model.encoder.layers[0].register_forward_hook(count("encoder"))
    model.decoder.layers[0].register_forward_hook(count("decoder"))
    trainee.step()
    assert len(model.decoder.layers) == 2
    batch = trainee.batch["target"].shape[0]
    assert {side: rows / batch for side, rows in seen.items()} == {"encoder": encoder, "decoder": decoder}


def test_command_line(tmp_path, capsys):
    shape = [word for name, value in TINY.items() for word in (f"--{name}", str(value))]
    words = ["SimCut", "--depths", "1+1", "--rounds", "1", "--memory", *shape, "--out", str(tmp_path)]
    variants.main(words, "benchmark variants")
    with (tmp_path / "variants.csv").open(encoding="utf-8") as file:
        rows = {row["variant"]: row for row in csv.DictReader(file)}
    assert list(rows) == [variants.PLAIN, variants.RDROP, "SimCut"]
    assert float(rows[variants.PLAIN]["of plain"]) == float(rows[variants.RDROP]["of R-Drop"]) == 1
    assert all(float(row["peak MB"]) > 0 for row in rows.values())
    assert "| 1+1    | SimCut" in capsys.readouterr().out
