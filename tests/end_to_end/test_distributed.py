"""Two gloo processes (torchrun) train as one process does with twice the batch, by both DDP backends."""

from __future__ import annotations

import os

import pytest
import tiny_lm
import torch
import two_processes
from tiny_criteria import make_criterion
from tiny_models import make_model, make_sample
from tiny_training import ROOT, succeed

from rdrop_fairseq import views
from rdrop_fairseq.errors import UserError
from rdrop_fairseq.views.models import find_projection

names = pytest.mark.parametrize("name", two_processes.RUNS)


@pytest.fixture(scope="module")
def trained(corpus, tmp_path_factory, warm_python):
    """A folder with what each of the two processes got out of each run; all runs in one pair of processes."""
    out = tmp_path_factory.mktemp("two processes")
    tiny_lm.write_text(corpus / "text")
    command = [warm_python, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    paths = os.pathsep.join([str(ROOT), str(ROOT / "tests" / "support")])
    succeed(*command, two_processes.__file__, corpus, out, PYTHONPATH=paths)
    return out


@names
def test_equals_one_process_with_twice_the_batch(corpus, trained, name, monkeypatch):
    monkeypatch.setattr(views, "stack_views", views.stack_views)  # put back what the next line changes
    two_processes.differ_by_rule()
    one = two_processes.result(corpus, name)
    ranks = [torch.load(trained / f"{name}.{rank}.pt") for rank in (0, 1)]
    for key, value in one["model"].items():
        assert torch.equal(ranks[0]["model"][key], ranks[1]["model"][key]), key
        torch.testing.assert_close(ranks[0]["model"][key], value, rtol=1e-4, atol=1e-5)
    for mine, other in zip(ranks[0]["logged"], one["logged"]):
        for key in ("loss", "nll_loss", "gnorm"):
            assert mine[key] == pytest.approx(other[key], rel=1e-4, abs=1e-6), key
        assert mine["rdrop_kl"] == pytest.approx(other["rdrop_kl"], rel=1e-3, abs=1e-6)
    if "prefixes" in name:
        assert all(update["gnorm"] == 0 for update in one["logged"])
    else:
        assert one["logged"][-1]["loss"] < one["logged"][0]["loss"]
    if "separate" not in name and "prefixes" not in name:
        assert one["logged"][0]["rdrop_kl"] > 0.01


def test_each_process_cuts_other_places_though_fairseq_seeds_them_alike(trained):
    places = [torch.load(trained / f"cut.{rank}.pt") for rank in (0, 1)]
    assert all(place.any() for place in places)
    assert not places[0].equal(places[1])
    assert places[0].equal(two_processes.cut_places())  # the first process cuts what one alone does


@pytest.fixture
def ddp():
    """Torch's wrapper in a group of one, as fairseq makes it."""
    store = torch.distributed.HashStore()
    torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    yield lambda model, **options: torch.nn.parallel.DistributedDataParallel(model, **options)
    torch.distributed.destroy_process_group()


@pytest.mark.parametrize(
    ("tied", "finding", "linear"),
    [(True, True, True), (True, False, True), (False, False, True), (False, True, False)],
)
def test_finding_unused_parameters_takes_the_logits_path_where_it_must(ddp, tied, finding, linear):
    """That wrapper takes an untied weight that model.forward does not touch for unused."""
    model = ddp(make_model(share_decoder_input_output_embed=tied), find_unused_parameters=finding)
    projection, reason = find_projection(model)
    assert (projection is not None) == linear
    assert linear or "--find-unused-parameters" in reason


@pytest.mark.parametrize(
    ("model", "options", "finding", "says"),
    [
        ({}, {"rdrop_forward": "separate"}, True, "one forward per view with --find-unused-parameters"),
        ({"checkpoint_activations": True}, {"rdrop_forward": "separate"}, False, "or leave out --checkpoint-activ"),
        ({"checkpoint_activations": True}, {}, True, "--checkpoint-activations with --find-unused-parameters"),
        ({"encoder_layerdrop": 0.5}, {}, False, "LayerDrop, which leaves layers without a gradient"),
    ],
)
def test_what_torchs_wrapper_cannot_do_is_said_before_the_first_backward(ddp, model, options, finding, says):
    wrapped = ddp(make_model(**model), find_unused_parameters=finding)
    with pytest.raises(UserError, match=f"(?=.*{says})(?=.*use --ddp-backend legacy_ddp)"):
        make_criterion("rdrop", **options)(wrapped, make_sample())
