"""The loss where it is not a criterion of this package: token-level and multi-label classification, other alphas."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy, kl_div, log_softmax

from rdrop_fairseq.loss import rdrop_loss


def symmetric_kl(logits: torch.Tensor) -> torch.Tensor:
    """KL both ways of the two halves, for each class of each row."""
    p, q = log_softmax(logits, -1).chunk(2)
    return kl_div(p, q, log_target=True, reduction="none") + kl_div(q, p, log_target=True, reduction="none")


def test_a_label_for_each_token() -> None:
    """Named entities and the like: [2*B, T, C] logits; tokens without a label have the target -100."""
    torch.manual_seed(1)
    logits = torch.randn(2 * 3, 5, 4, dtype=torch.float64)
    target = torch.randint(4, (3, 5))
    target[0, 3:] = -100
    loss = rdrop_loss(logits, target, alpha=0.5)[0]
    ce = cross_entropy(logits.view(-1, 4), torch.cat([target, target]).view(-1), reduction="sum")
    kl = symmetric_kl(logits)[target.ne(-100)].sum()
    torch.testing.assert_close(loss, ce + 0.25 * kl)


def test_several_labels_for_each_sentence() -> None:
    """Each of L labels is a choice between no (logit 0) and yes (z): [2*B, L] logits z become [2*B, L, 2]."""
    torch.manual_seed(2)
    z = torch.randn(2 * 3, 7, dtype=torch.float64)
    target = torch.randint(2, (3, 7))
    loss = rdrop_loss(torch.stack([torch.zeros_like(z), z], -1), target, alpha=0.5)[0]
    bce = binary_cross_entropy_with_logits(z, torch.cat([target, target]).double(), reduction="sum")
    p, q = z.sigmoid().chunk(2)
    kl = (p - q) * (p.logit() - q.logit())  # both ways at once, of two coins
    torch.testing.assert_close(loss, bce + 0.25 * kl.sum())


@pytest.mark.parametrize(("batch", "classes"), [(8, 2), (16, 3)])
def test_alphas_of_other_code(batch: int, classes: int) -> None:
    """Their loss with their alpha is ours per sentence, up to its scale, with the alpha in the config of GLUE."""
    torch.manual_seed(3)
    logits, target = torch.randn(2 * batch, classes, dtype=torch.float64), torch.randint(classes, (batch,))
    both, theirs = torch.cat([target, target]), 0.7
    kl = symmetric_kl(logits)
    ours = {
        # the paper's authors, BERT: mean CE of each view, half of both KL, summed over the batch
        2 * cross_entropy(logits, both) + theirs * kl.sum() / 2: (theirs * batch, 1),
        # Keras (bert4keras): mean CE over 2B, a quarter of the mean of both KL
        cross_entropy(logits, both) + theirs * kl.sum(-1).mean() / 4: (theirs, 2),
        # torch, reduction="batchmean": mean CE of each view, half of both KL per sentence
        2 * cross_entropy(logits, both) + theirs * kl.sum() / batch / 2: (theirs, 1),
        # torch, reduction="mean" (its default): divided by the number of classes as well
        2 * cross_entropy(logits, both) + theirs * kl.mean() / 2: (theirs / classes, 1),
    }
    for loss, (alpha, scale) in ours.items():
        torch.testing.assert_close(rdrop_loss(logits, target, alpha=alpha)[0] / batch, loss * scale)
