"""What is cut: shares, stretches, dimensions, and what never is; and that a model keeps no trace of it."""

from __future__ import annotations

import pytest
import torch
from tiny_models import BOS, EOS, PAD, UNK, make_model, make_sample, make_task, without_randomness
from torch import nn

from rdrop_fairseq.errors import UserError
from rdrop_fairseq.views.cutoff import KINDS, Cutoff, cutting, draw, parse_views
from rdrop_fairseq.views.stack import stack_views

ALL_KINDS = pytest.mark.parametrize("kind", KINDS)
SPECIALS = (BOS, EOS, PAD)
KERNELS = {f"{side}_{name}": value for side in ("encoder", "decoder") for name, value in
           {"conv_type": "lightweight", "kernel_size_list": [3, 3], "glu": True}.items()}  # fmt: skip
# Architecture and options whose way from tokens to the first layer differs.
MODELS = {
    "separate embeddings": ("transformer", {}),
    "shared embeddings": ("transformer", {"share_all_embeddings": True}),
    "learned positions": ("transformer", {"encoder_learned_pos": True, "decoder_learned_pos": True}),
    "layernorm and unscaled": ("transformer", {"layernorm_embedding": True, "no_scale_embedding": True}),
    "bart": ("bart_base", {}),
    "lstm": ("lstm", {}),
    "convolutions": ("fconv", {"encoder_layers": "[(16, 3)]", "decoder_layers": "[(16, 3)]"}),
    "light convolutions": ("lightconv", {**KERNELS, "weight_softmax": True, "weight_dropout": 0.1}),
}
LENGTHS = {"lstm": (9, 9, 9)}  # its encoder wants sentences from long to short, which a stack of views is not
ALL_MODELS = pytest.mark.parametrize(("arch", "options"), MODELS.values(), ids=MODELS)


def make_cutoff(kind: str = "token", rate: float = 1.0, views: tuple[int, ...] = (1,)) -> Cutoff:
    cutoff = Cutoff.of_task(make_task(), kind, rate, views)
    assert cutoff is not None
    return cutoff


def traces(model: nn.Module) -> int:
    """Hooks of any kind on any module."""
    return sum(
        len(hooks)
        for module in model.modules()
        for name, hooks in vars(module).items()
        if "hooks" in name and isinstance(hooks, dict)
    )


def first_inputs(model: nn.Module, net_input: dict, sides: tuple[str, ...] = ("encoder", "decoder")) -> dict:
    """What the embeddings of encoder and decoder gave in one forward, after every other hook: {side: [m*B, T, d]}."""
    seen: dict[str, torch.Tensor] = {}
    side: list[str] = []
    handles = []
    for name in sides:
        module = getattr(model, name)
        handles.append(module.register_forward_pre_hook(lambda *_, name=name: side.append(name)))
    for embedding in {id(getattr(model, s).embed_tokens): getattr(model, s).embed_tokens for s in sides}.values():
        handles.append(embedding.register_forward_hook(lambda _m, _i, out: seen.__setitem__(side[-1], out.clone())))
    try:
        model(**net_input)
    finally:
        for handle in handles:
            handle.remove()
    return seen


@ALL_KINDS
@pytest.mark.parametrize("rate", [0.05, 0.3])
def test_the_expected_share_is_cut_of_sentences_of_any_length(kind, rate):
    torch.manual_seed(3)
    cuttable = torch.ones(400, 40, dtype=torch.bool)
    cuttable[:, 0] = False
    cuttable[200:, 7:] = False  # short sentences, where a span of rate * length tokens is less than one
    width = 50
    cut = draw(kind, rate, cuttable, width).expand(-1, -1, width)
    assert not cut[~cuttable].any()
    for rows in (slice(0, 200), slice(200, 400)):
        share = cut[rows].sum().item() / (cuttable[rows].sum().item() * width)
        assert share == pytest.approx(rate, abs=0.25 * rate)  # 3 standard deviations at 1200 tokens are 0.38 of 0.05


def test_a_span_is_one_stretch_of_rounded_length():
    torch.manual_seed(3)
    cuttable = torch.ones(300, 22, dtype=torch.bool)
    cuttable[:, :1] = False
    cuttable[:, -1:] = False
    cuttable[:, 9] = False  # a special in the middle does not end the stretch and is not cut
    cut = draw("span", 0.23, cuttable, 4).squeeze(-1)
    lengths = cut.sum(1)
    assert set(lengths.tolist()) == {4, 5}  # 0.23 of 19 is 4.37
    assert lengths.float().mean().item() == pytest.approx(4.37, abs=0.1)
    among = cut[:, cuttable[0]].int()
    assert (among.diff(dim=1).abs().sum(1) + among[:, 0] + among[:, -1]).eq(2).all()
    assert among.any(0).all()  # every token may be hit


def test_spans_of_rate_one_and_of_empty_sentences():
    cuttable = torch.tensor([[True, True, True], [False, False, False]])
    assert draw("span", 1.0, cuttable, 4).squeeze(-1).equal(cuttable)


def test_features_are_cut_along_the_whole_sentence():
    torch.manual_seed(3)
    cuttable = torch.ones(20, 6, dtype=torch.bool)
    cut = draw("feature", 0.5, cuttable, 32)
    assert cut.equal(cut[:, :1].expand(-1, 6, -1))
    assert not cut[0].equal(cut[1])


@ALL_KINDS
def test_specials_and_the_first_decoder_input_are_never_cut(kind):
    cutoff = make_cutoff(kind)
    tokens = torch.tensor([[9, 5, BOS, UNK, EOS, PAD], [PAD, PAD, 9, 7, EOS, 8]])  # 9 stands for a language token
    source = draw(kind, 1.0, cutoff.cuttable(tokens, "encoder"), 4).all(-1)
    target = draw(kind, 1.0, cutoff.cuttable(tokens, "decoder"), 4).all(-1)
    assert source.int().tolist() == [[1, 1, 0, 1, 0, 0], [0, 0, 1, 1, 0, 1]]
    assert target.int().tolist() == [[0, 1, 0, 1, 0, 0], [0, 0, 0, 1, 0, 1]]


@ALL_MODELS
def test_only_the_cut_view_loses_its_words(arch, options):
    task = make_task()
    model = make_model(arch, task, **options)
    own = traces(model)
    net_input = stack_views(make_sample(lengths=LENGTHS.get(arch))["net_input"], 3, 2)
    whole = first_inputs(model, net_input)
    with cutting(model, make_cutoff(), range(2)):
        cut = first_inputs(model, net_input)
    for side, tokens in (("encoder", net_input["src_tokens"]), ("decoder", net_input["prev_output_tokens"])):
        assert cut[side][:3].equal(whole[side][:3])
        kept = torch.isin(tokens[3:], torch.tensor(SPECIALS))
        assert cut[side][3:][kept].equal(whole[side][3:][kept])
        assert not cut[side][3:][~kept].any()
        assert whole[side][3:][~kept].any(-1).all()
    assert traces(model) == own


def test_which_view_each_forward_is():
    """With one forward per view, the only rows are those of that view."""
    model = without_randomness(make_model())
    net_input = make_sample()["net_input"]
    plain = model(**net_input)[0]
    with cutting(model, make_cutoff(), [0]):
        assert model(**net_input)[0].equal(plain)
    with cutting(model, make_cutoff(), [1]):
        assert not model(**net_input)[0].equal(plain)


def test_a_seed_fixes_what_is_cut():
    model = without_randomness(make_model())
    net_input = stack_views(make_sample(range(20, 12, -1))["net_input"], 8, 2)
    outputs = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        with cutting(model, make_cutoff(rate=0.3), range(2)):
            outputs.append(model(**net_input)[0])
    assert outputs[0].equal(outputs[1])
    assert not outputs[0].equal(outputs[2])


def test_nothing_is_drawn_when_no_view_here_is_cut():
    model = make_model()
    net_input = make_sample()["net_input"]
    torch.manual_seed(1)
    plain = model(**net_input)[0]
    for cutoff, views in ((None, [0, 1]), (make_cutoff(views=(2,)), [0, 1])):
        torch.manual_seed(1)
        with cutting(model, cutoff, views):
            assert model(**net_input)[0].equal(plain)
            assert traces(model) == 0


@pytest.mark.parametrize("where", ["encoder", "decoder"])
def test_an_exception_leaves_nothing_behind(where):
    model = make_model(share_all_embeddings=True)
    net_input = make_sample()["net_input"]
    torch.manual_seed(1)
    before = model(**net_input)[0]

    def fail(*_):
        raise RuntimeError("out of memory")

    handle = getattr(model, where).layers[0].register_forward_hook(fail)
    with pytest.raises(RuntimeError, match="out of memory"), cutting(model, make_cutoff(), [1]):
        model(**net_input)
    handle.remove()
    assert traces(model) == 0
    torch.manual_seed(1)
    assert model(**net_input)[0].equal(before)


def test_a_model_without_embeddings_is_told_so_and_left_clean():
    model = make_model()
    del model.decoder.embed_tokens
    with pytest.raises(UserError, match=r"no decoder\.embed_tokens: use --rdrop-cutoff none"), cutting(
        model, make_cutoff(), [1]
    ):
        pytest.fail("opened")
    assert traces(model) == 0


def test_an_encoder_that_goes_around_its_embeddings_is_noticed():
    model = make_model("bart_base")
    net_input = make_sample()["net_input"]
    net_input["token_embeddings"] = model.encoder.embed_tokens(net_input["src_tokens"])
    with pytest.raises(UserError, match="the encoder did not call embed_tokens"), cutting(model, make_cutoff(), [1]):
        model(**net_input)


@pytest.mark.parametrize(
    ("text", "views", "expected"), [("all", 3, (0, 1, 2)), ("rest", 3, (1, 2)), ("1", 2, (1,)), ("2, 0", 3, (0, 2))]
)
def test_views_that_are_cut(text, views, expected):
    assert parse_views(text, views) == expected


@pytest.mark.parametrize("text", ["", "2", "0,0", "-1", "0,", "one", "0 1"])
def test_views_that_are_none(text):
    with pytest.raises(UserError, match=r"numbers in 0\.\.1"):
        parse_views(text, 2)


@pytest.mark.parametrize("rate", [-0.1, 1.5, float("nan")])
def test_rates_that_are_none(rate):
    with pytest.raises(UserError, match=r"\[0, 1\]"):
        Cutoff.of_task(make_task(), "token", rate, (1,))


@pytest.mark.parametrize(("kind", "rate"), [("none", 0.5), ("token", 0.0)])
def test_what_cuts_nothing_is_no_cutoff(kind, rate):
    assert Cutoff.of_task(make_task(), kind, rate, (1,)) is None


def test_an_unknown_kind():
    with pytest.raises(UserError, match="token, span, feature"):
        Cutoff("word", 0.1, (1,), SPECIALS, SPECIALS, PAD)
