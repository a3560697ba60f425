"""The benchmark of the variants: each is what its name says, beside plain training and plain R-Drop."""

from __future__ import annotations

import json

import pytest

from rdrop_fairseq.benchmark import variants
from rdrop_fairseq.benchmark.training_steps import Rig, transformer


@pytest.fixture(scope="module")
def rig():
    return Rig(transformer(1, 2, 16, 16), 200)


@pytest.mark.parametrize(
    ("name", "encoder", "decoder"),
    [
        (variants.PLAIN, 1, 1),
        (variants.RDROP, 2, 2),
        ("rdrop, 3 passes", 3, 3),
        ("rdrop, shared encoder", 1, 2),
        ("cutoff", 2, 2),
    ],
)
def test_rows_that_pass_through_encoder_and_decoder(rig, name, encoder, decoder):
    """Of a step, in batches; stacked views count as many. The batch is not changed for the next criterion."""
    seen = {"encoder": 0, "decoder": 0}

    def count(side):
        def hook(module, args, output):
            seen[side] += args[0].shape[1]  # T x B x d

        return hook

    model, batch = rig.trainer.get_model(), rig.batch(100)
    handles = [getattr(model, side).layers[0].register_forward_hook(count(side)) for side in seen]
    updates = rig.trainer.get_num_updates()
    rig.step(rig.criterion(variants.VARIANTS[name]), batch)
    for handle in handles:
        handle.remove()
    assert rig.trainer.get_num_updates() == updates + 1
    assert len(model.decoder.layers) == 2
    rows = batch["target"].shape[0]
    assert {side: value / rows for side, value in seen.items()} == {"encoder": encoder, "decoder": decoder}


def test_command_line(tmp_path, capsys):
    shape = ["--width", "16", "--ffn", "16", "--classes", "200", "--tokens", "100"]
    words = ["simcut", "--depths", "1+1", "--rounds", "1", "--memory", *shape, "--out", str(tmp_path)]
    variants.main(words, "benchmark variants")
    rows = {row["variant"]: row for row in json.loads((tmp_path / "variants.json").read_text())}
    assert list(rows) == [variants.PLAIN, variants.RDROP, "simcut"]
    assert rows[variants.PLAIN]["of plain"] == rows[variants.RDROP]["of R-Drop"] == 1
    assert all(row["peak MB"] > 0 for row in rows.values())
    assert "| 1+1    | simcut" in capsys.readouterr().out
