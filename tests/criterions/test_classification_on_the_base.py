"""A criterion for classes, written on MultiView without touching it: class 1, which is padding elsewhere, counts."""

from __future__ import annotations

import pytest
import torch
from fairseq.criterions import FairseqCriterion
from tiny_models import PAD, make_task
from torch import nn

from rdrop_fairseq.criterions.multi_view import MultiView, Sizes
from rdrop_fairseq.loss import rdrop_weights
from rdrop_fairseq.views import Views
from rdrop_fairseq.views.models import Rows


class Classification(MultiView, FairseqCriterion):
    views, weights = Views(2), rdrop_weights(3.0)

    def rows(self, bound, sample, count):
        return Rows(bound.run(sample["net_input"], sample["target"].numel(), count)[0])

    def sizes(self, sample):
        return Sizes(*[sample["target"].numel()] * 4)


class Classifier(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Dropout(0.3), nn.Linear(5, 3))

    def forward(self, features):
        return self.layers(features), {}


@pytest.mark.parametrize("target", [[1, 1, 1, 1], [0, 1, 2, 1]])
def test_every_class_counts(target):
    torch.manual_seed(1)
    model, features, target = Classifier(), torch.randn(4, 5), torch.tensor(target)
    assert PAD in target
    sample = {"net_input": {"features": features}, "target": target}
    torch.manual_seed(2)
    loss, size, log = Classification(make_task())(model, sample)
    torch.manual_seed(2)
    lp = torch.log_softmax(model(features.repeat(2, 1))[0], -1)
    p, q = lp.chunk(2)
    kl = nn.functional.kl_div(p, q, reduction="sum", log_target=True)
    kl = kl + nn.functional.kl_div(q, p, reduction="sum", log_target=True)
    expected = nn.functional.nll_loss(lp, target.repeat(2), reduction="sum") + 1.5 * kl
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    assert (size, log["nsentences"], log["rdrop_ntokens"]) == (4, 4, 4)
