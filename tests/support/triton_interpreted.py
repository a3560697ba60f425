"""Started with TRITON_INTERPRET=1: the kernel on CPU tensors beside float64, as JSON lines of errors.

A module of its own, since interpreting and compiling cannot share a process.
"""

from __future__ import annotations

import json
import warnings

import torch

import rdrop_fairseq.loss.rows as row_sweep
from rdrop_fairseq.loss import ViewWeights, choose, linear_rdrop_loss, plain_weights, rdrop_weights, simcut_weights
from rdrop_fairseq.loss.eager import eager_loss
from rdrop_fairseq.loss.fused import LinearLoss
from rdrop_fairseq.loss.rows import RowSweep
from rdrop_fairseq.loss.rows_triton import TritonSweep, padded

WEIGHTS = {
    "rdrop": rdrop_weights(5.0),
    "simcut": simcut_weights(3.0),
    "asymmetric": ViewWeights((0.3, 2.0), ((0.0, 1.5), (0.2, 0.0))),
    "divergence only": ViewWeights((0.0, 0.0), ((0.0, 1.0), (0.5, 0.0))),
    "plain": plain_weights(2.0),
    "heavy": rdrop_weights(100.0),
}
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def inputs(kind: str, views: int, classes: int, dtype: torch.dtype) -> torch.Tensor:
    """[m, 5, V] logits with NaN in the padding of their rows."""
    draw = torch.Generator().manual_seed(classes)
    z = torch.randn(views, 5, classes, generator=draw, dtype=torch.float64) * 3
    if kind == "equal":
        z[-1] = z[0]
    if kind == "gaps":
        z[0, :, 3] += 250
        z[-1, :, 5] -= 300
    whole = torch.full((views, 5, padded(classes)), float("nan"), dtype=dtype)
    whole[..., :classes] = z
    return whole[..., :classes]


def measure(kind: str, classes: int, name: str, dtype: torch.dtype) -> dict[str, float]:
    """Errors relative to float64 on the same, rounded, logits; of the torch sweep as well."""
    weights = WEIGHTS[name]
    z, views = inputs(kind, weights.views, classes, dtype), weights.views
    target = torch.tensor([0, classes - 1, 3, 5, classes // 2])
    exact = z.double().requires_grad_()
    truth = eager_loss(exact, target, weights, 0.1)
    (gradient,) = torch.autograd.grad(truth[0], exact)
    logits = z.float().contiguous()
    found = {"torch": RowSweep(weights, 0.1, classes)(logits, target, logits.sum(-1), True)}
    sweep = TritonSweep(weights, 0.1, classes)
    sweep.warps = 1
    found["triton"] = sweep(z, target, None, True)
    errors: dict[str, float] = {"kl": found["triton"].kl.item()}
    for which, chunk in found.items():
        assert chunk.grad is not None
        whole = torch.stack([chunk.grad[i].double() * chunk.scale[i] + chunk.constant[i] for i in range(views)])
        errors[f"{which} gradient"] = ((whole - gradient).norm() / gradient.norm().clamp_min(1e-6)).item()
        for what, value, right in zip(("loss", "nll", "kl"), (chunk.loss, chunk.nll, chunk.kl), truth):
            errors[f"{which} {what}"] = abs(value.item() - right.item()) / (1 + abs(truth[0].item()))
    return errors


def check_products(dtype: torch.dtype, bias: bool) -> dict[str, float]:
    """Features to gradients with logits that stay in half precision, relative to float64 on the same operands."""
    draw = torch.Generator().manual_seed(1)
    views, rows, width, classes = 2, 11, 16, 203
    x = torch.randn(views, rows, width, generator=draw).to(dtype)
    w = (torch.randn(classes, width, generator=draw) * 0.5).to(dtype)
    b = torch.linspace(-1, 1, classes).to(dtype) if bias else None
    target = torch.randint(classes, (rows,), generator=draw)
    leaves = [t.clone().requires_grad_() for t in (x, w, b) if t is not None]
    sweep = TritonSweep(WEIGHTS["asymmetric"], 0.1, classes)
    sweep.warps = 1
    loss, *_ = LinearLoss.apply(
        leaves[0], leaves[1], leaves[2] if bias else None, target, sweep, dtype, (True, True, bias)
    )
    found = torch.autograd.grad(loss, leaves)
    exact = [t.double().detach().requires_grad_() for t in leaves]
    z = exact[0] @ exact[1].t() + (exact[2] if bias else 0)
    truth = eager_loss(z, target, WEIGHTS["asymmetric"], 0.1)[0]
    right = torch.autograd.grad(truth, exact)
    pairs = enumerate(zip(found, right))
    errors = {f"gradient {i}": ((a.double() - t).norm() / t.norm()).item() for i, (a, t) in pairs}
    return {"loss": abs(loss.item() - truth.item()) / truth.item(), **errors}


def check_dead(name: str, dtype: torch.dtype) -> dict[str, float]:
    """A position that does not count: its loss and gradient, and the largest difference that it makes to others."""
    weights = WEIGHTS[name]
    target = torch.tensor([0, 32, -1, 5, 7])
    z = inputs("normal", weights.views, 33, dtype)
    z[:, 2] = 0.0
    others = torch.tensor([0, 1, 3, 4])
    sweep = TritonSweep(weights, 0.1, 33)
    sweep.warps = 1
    alone = sweep(z[:, others].contiguous(), target[others], None, True)
    found = sweep(z, target, None, True)
    assert found.grad is not None
    assert alone.grad is not None
    return {
        "gradient": found.grad[:, 2].abs().max().item(),
        "others": (found.grad[:, others] - alone.grad).abs().max().item(),
        "sums": max(abs(getattr(found, what) - getattr(alone, what)).item() for what in ("loss", "nll", "kl")),
    }


def check_masked(name: str) -> list[float]:
    """Losses of 33 classes, and of 35 of which two are masked by the lowest finite logit, without label smoothing."""
    weights, target, losses = WEIGHTS[name], torch.tensor([0, 32, 3, 5, 7]), []
    z = inputs("normal", weights.views, 33, torch.float32)
    masked = torch.full((weights.views, 5, 35), torch.finfo(torch.float32).min)
    masked[..., :33] = z
    for logits in (z, masked):
        sweep = TritonSweep(weights, 0.0, logits.size(-1))
        sweep.warps = 1
        losses.append(sweep(logits, target, None, False).loss.item())
    return losses


def check_overflow() -> dict[str, object]:
    """alpha 100, fp16 logits of views 10,000 apart: the gradient, 15,000, cannot be stored times its scale, 16."""
    weights, dtype = WEIGHTS["heavy"], torch.float16
    w = torch.zeros(33, 1, dtype=dtype)
    w[3], w[5] = 1.0, -1.0
    x = torch.tensor([[[1.0], [0.001]], [[10000.0], [0.002]]], dtype=dtype)
    x[0, 0] = 0.0  # position 0: undecided in view 1, sure in view 2; position 1: harmless
    leaves = [x.requires_grad_(), w.requires_grad_()]
    target = torch.tensor([3, 4])
    sweep = TritonSweep(weights, 0.1, 33)
    sweep.warps = 1
    loss, *_ = LinearLoss.apply(*leaves, None, target, sweep, dtype, (True, True, False))
    dx, dw = torch.autograd.grad(loss, leaves)
    exact = [t.double().detach().requires_grad_() for t in leaves]
    truth = eager_loss(exact[0] @ exact[1].t(), target, weights, 0.1)[0]
    right = torch.autograd.grad(truth, exact[0])[0][:, 1]
    return {
        "loss": abs(loss.item() - truth.item()) / truth.item(),
        "finite": [bool(dx[0, 0].isfinite().all()), bool(dw.isfinite().all())],
        "harmless": ((dx[:, 1].double() - right).norm() / right.norm()).item(),
    }


def check_fallback() -> dict[str, object]:
    """What the self-check says of the kernel as it is, 5 % off in one column, and of one that does not run."""
    cpu, good = torch.device("cpu"), TritonSweep.__call__

    def wrong(self, z, *args):
        chunk = good(self, z, *args)
        z[..., 17] *= 1.05
        return chunk

    def broken(self, *_):
        raise RuntimeError("out of resource: shared memory")

    said: dict[str, object] = {"good": choose.compare(cpu, torch.bfloat16, 2)}
    for name, call in (("wrong", wrong), ("broken", broken)):
        TritonSweep.__call__ = call
        choose.works.cache_clear()
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            said[name] = [choose.works(cpu, torch.float32, 2), choose.works(cpu, torch.float32, 2)]
        said[f"{name} warnings"] = [str(w.message) for w in caught]
    def skewed(self, *args):
        chunk = good(self, *args)
        chunk.kl = chunk.kl * 1.05
        return chunk

    TritonSweep.__call__ = skewed
    said["skewed"] = choose.compare(cpu, torch.float32, 2)
    TritonSweep.__call__ = good
    return said


def check_tf32() -> object:
    """What the self-check says where fp32 products round their operands to TF32, as NVIDIA's containers have it."""
    exact = row_sweep.row_dot

    def rounded(values: torch.Tensor) -> torch.Tensor:
        if values.dtype != torch.float32:
            return values
        return (values.contiguous().view(torch.int32) & ~0x1FFF).view(torch.float32)

    row_sweep.row_dot = lambda a, b: exact(rounded(a), rounded(b))
    try:
        return choose.compare(torch.device("cpu"), torch.float32, 2)
    finally:
        row_sweep.row_dot = exact


def check_by_name() -> float:
    """--rdrop-impl fused-triton on fp32 features: largest difference from fused-torch, relative."""
    draw = torch.Generator().manual_seed(3)
    x, w = torch.randn(12, 8, generator=draw).requires_grad_(), torch.randn(70, 8, generator=draw).requires_grad_()
    y = torch.randint(70, (6,), generator=draw)
    y[2] = -100
    results = []
    for impl in ("fused-torch", "fused-triton"):
        loss, nll, kl = linear_rdrop_loss(x, w, y, alpha=5.0, label_smoothing=0.1, impl=impl)
        results.append([loss, nll, kl, *torch.autograd.grad(loss, (x, w))])
    return max(((a - b).norm() / a.norm()).item() for a, b in zip(*results))


if __name__ == "__main__":
    torch.set_num_threads(1)
    cases = [("normal", v, name) for v in (33, 1000, 1003) for name in WEIGHTS]
    cases += [("equal", 33, "rdrop"), ("gaps", 1003, "rdrop"), ("gaps", 33, "simcut"), ("gaps", 33, "heavy")]
    cases += [("normal", 8000, "rdrop")]
    for kind, classes, name in cases:
        for dtype in DTYPES if classes < 8000 else ["bf16"]:
            case = {"kind": kind, "classes": classes, "weights": name, "dtype": dtype}
            print(json.dumps({**case, **measure(kind, classes, name, DTYPES[dtype])}))
    for dtype in ("bf16", "fp16"):
        for bias in (False, True):
            print(json.dumps({"kind": "products", "dtype": dtype, **check_products(DTYPES[dtype], bias)}))
    for name in ("rdrop", "asymmetric", "plain"):
        for dtype in DTYPES:
            print(json.dumps({"kind": "dead", **check_dead(name, DTYPES[dtype])}))
    for name in ("rdrop", "plain"):
        print(json.dumps({"kind": "masked", "losses": check_masked(name)}))
    print(json.dumps({"kind": "overflow", **check_overflow()}))
    print(json.dumps({"kind": "fallback", **check_fallback()}))
    print(json.dumps({"kind": "tf32", "said": check_tf32()}))
    print(json.dumps({"kind": "by name", "difference": check_by_name()}))
