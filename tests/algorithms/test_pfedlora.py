"""pFedLoRA against gradients worked out in numpy, and at its limit, where it is Standalone."""

import numpy as np
import pytest
import torch
from torch import nn

from strata.algorithms.pfedlora import Adapter, Down, Global, PFedLoRA, PFedLoRAConfig, Private, Up
from strata.engine.data.dataset import Dataset
from strata.engine.errors import ConfigError
from strata.engine.federation import Federation
from strata.engine.method.messages import Received
from strata.engine.method.requests import Train
from strata.engine.models.base import FeatureModel, init_params
from strata.engine.models.spec import Family, ModelSpec
from strata.engine.options import check
from strata.engine.training.sequential import Sequential
from strata.engine.tree import count_bytes, fingerprint
from tests.helpers.arithmetic.linear import (
    DATA,
    INFO,
    LR,
    ONE_STEP,
    WORK,
    D,
    F,
    K,
    X,
    arrays,
    assert_close,
    backward,
    cross_entropy,
    drive,
    error,
    evaluate,
    forward,
    fresh,
    requests,
    softmax,
    spec,
    step,
)
from tests.helpers.calls import call_rows
from tests.helpers.moments import AT
from tests.helpers.small import small
from tests.helpers.training import lead

RANK, MU = 2, 0.3


def method(model=None, **settings):
    settings = {"lr": LR, "epochs": 0, "steps": 1, "batch_size": 100, "rank": RANK, "mu": MU} | settings
    return PFedLoRA(PFedLoRAConfig(**settings), model or spec())


def some_theta(structure, site="features", seed=5):
    """An adapter none of whose factors is zero."""
    draw = torch.Generator().manual_seed(seed)
    start = init_params(method(structure=structure, site=site, mixing="output").adapter, seed)
    return {name: torch.randn(value.shape, generator=draw) / 2 for name, value in start.items()}


def adapt(theta, f):
    """ŷ_A."""
    if "first" in theta:
        return f @ theta["first"] @ theta["second"]
    if "features.weight" in theta:  # the chain of the linear model, with RANK features
        return forward(theta, f)[1]
    hidden = np.maximum(f @ theta["0.weight"].T + theta["0.bias"], 0)
    return hidden @ theta["2.weight"].T + theta["2.bias"]


def adapt_back(theta, f, d):
    """Gradients of θ and of the features, given the loss's by ŷ_A."""
    if "first" in theta:
        first, second = theta["first"], theta["second"]
        return {"first": f.T @ d @ second.T, "second": (f @ first).T @ d}, d @ second.T @ first.T
    if "features.weight" in theta:
        return backward(theta, d, x=f), 0.0
    inner = f @ theta["0.weight"].T + theta["0.bias"]
    d_inner = (d @ theta["2.weight"]) * (inner > 0)
    gradient = {
        "0.weight": d_inner.T @ f,
        "0.bias": d_inner.sum(0),
        "2.weight": d.T @ np.maximum(inner, 0),
        "2.bias": d.sum(0),
    }
    return gradient, d_inner @ theta["0.weight"]


def errors(mixing, adapted, plain):
    """Gradients of step A's loss by ŷ_A and ŷ_F."""
    if mixing == "loss":
        return MU * error(adapted), (1 - MU) * error(plain)
    e = error(MU * adapted + (1 - MU) * plain)
    return MU * e, (1 - MU) * e


@pytest.mark.parametrize(("mixing", "site"), [("loss", "features"), ("output", "features"), ("output", "input")])
@pytest.mark.parametrize("structure", ["reduction", "decomposition"])
@pytest.mark.parametrize("training", ["iterative", "simultaneous"])
def test_one_call_matches_numpy(structure, mixing, training, site):
    pfedlora = method(structure=structure, mixing=mixing, training=training, site=site)
    omega, theta = fresh(spec()), some_theta(structure, site)
    result, work = drive(pfedlora, Private(omega), Down(theta, ONE_STEP))

    w, t = arrays(omega), arrays(theta)
    f, plain = forward(w)
    read = f if site == "features" else X
    d_adapted, d_plain = errors(mixing, adapt(t, read), plain)
    t_gradient, d_read = adapt_back(t, read, d_adapted)
    w_after = step(w, backward(w, d_plain, d_read if site == "features" else 0.0))
    if training == "iterative":
        f, plain = forward(w_after)
        read = f if site == "features" else X
        # Step B under mixing=loss is the adapter's own cross-entropy, without μ.
        d = error(adapt(t, read)) if mixing == "loss" else errors(mixing, adapt(t, read), plain)[0]
        t_gradient, _ = adapt_back(t, read, d)
    t_after = step(t, t_gradient)

    assert_close(result.state.omega, w_after, w)
    assert_close(result.up.theta, t_after, t)
    assert_close(result.state.theta, t_after, t)
    assert work.steps == (2 if training == "iterative" else 1)


@pytest.mark.parametrize("mixing", ["loss", "output"])
def test_each_step_moves_its_own_part_only_batch_norm_included(mixing):
    pfedlora = method(spec("normed"), mixing=mixing)
    down = Down(some_theta("decomposition"), ONE_STEP)
    steps = pfedlora.client_step(INFO, Private(fresh(spec("normed"))), down, None)
    (first,) = requests(steps, [])
    answers, moved = [], []
    for request in (first, None):
        request = request or steps.send(answers[-1])
        assert isinstance(request, Train)
        answer, _ = lead(Sequential(DATA), iter_once(request), np.arange(12), np.arange(12), 1, "client 0")
        answers.append(answer)
        start = request.start
        moved.append({name for name in start if not torch.equal(start[name], answer.params[name])})
    assert moved[0]
    assert all(name.startswith("model.") for name in moved[0])
    assert "model.features.1.running_mean" in moved[0]
    assert moved[1] == {"adapter.first", "adapter.second"}


def iter_once(request):
    return (yield request)


def test_only_the_adapter_travels_and_its_bytes_are_those_of_its_matrices():
    for structure, numbers in (
        ("decomposition", RANK * (F + K)),
        ("reduction", F * RANK + RANK + RANK * K + K),
    ):
        pfedlora = method(structure=structure)
        g = pfedlora.init_global(1)
        result, _ = drive(pfedlora, pfedlora.init_client(INFO, 2), pfedlora.to_client(g, INFO, WORK))
        assert count_bytes(result.up) == 4 * numbers
        assert count_bytes(pfedlora.to_client(g, INFO, WORK)) == 4 * numbers + 16  # and two numbers


def test_the_five_cnns_share_an_adapter_of_500_by_r():
    words = ("method.site=features", "method.structure=decomposition", "method.rank=8")
    with Federation(small("pfedlora", "model.family=[]", "model.width=0.02", *words, "rounds=1")) as federation:
        (record,) = federation
    assert {call.bytes_up for call in call_rows(record.calls)} == {4 * 8 * (500 + 10)}
    assert len({call.flops / call.samples for call in call_rows(record.calls)}) == 5  # CNN-1 to CNN-5


def test_a_fresh_decomposition_is_gaussian_times_zero():
    theta = init_params(Adapter("decomposition", 64, 500, K), 3)
    assert not theta["second"].any()
    assert float(theta["first"].mean()) == pytest.approx(0, abs=4 / 500**0.5 / (500 * 64) ** 0.5)
    assert float(theta["first"].std()) == pytest.approx(500**-0.5, rel=0.02)
    share = float((theta["first"].abs() < 500**-0.5).float().mean())
    assert share == pytest.approx(0.6827, abs=0.01)  # of a Gaussian, within one standard deviation


def test_the_server_weights_adapters_by_samples():
    ups = [Received(0, 30, Up({"first": torch.tensor([2.0])})), Received(1, 10, Up({"first": torch.tensor([6.0])}))]
    after = method().global_step(Global({"first": torch.zeros(1)}), ups, AT)
    assert after.theta["first"].tolist() == [(30 * 2 + 10 * 6) / 40]


def test_the_personal_model_answers_with_the_head_or_with_the_mixture():
    omega, theta = fresh(spec()), some_theta("decomposition")
    f, plain = forward(arrays(omega))
    mixture = MU * adapt(arrays(theta), f) + (1 - MU) * plain
    for mixing, state, logits in (
        ("loss", Private(omega, theta), plain),
        ("output", Private(omega, theta), mixture),
        ("output", Private(omega), plain),
    ):
        answer = evaluate(method(mixing=mixing), state)
        assert answer.loss_sum == pytest.approx(len(X) * cross_entropy(logits), rel=1e-5)
        assert answer.correct == (softmax(logits).argmax(1) == DATA.y).sum()
    assert abs(cross_entropy(plain) - cross_entropy(mixture)) > 1e-3


def test_rank_0_is_standalone_to_the_bit():
    runs = []
    for name, *words in (("standalone",), ("pfedlora", "method.rank=0"), ("pfedlora", "method.rank=4")):
        with Federation(small(name, "clients.participation=0.5", "method.momentum=0.5", *words)) as federation:
            records = list(federation)
            models = {client: state.omega for client, state in federation.rounds.snapshot().clients.items()}
        costs = [(r.flops, r.bytes_client_up, r.bytes_client_down, r.train_loss, r.virtual_s) for r in records]
        runs.append((fingerprint(models), costs, [r.scores for r in records]))
    assert runs[0] == runs[1]
    assert runs[0][0] != runs[2][0]


@pytest.mark.parametrize("rank", [1, 2, 4, 8, 16, 32, 64])
@pytest.mark.parametrize("mu", [0.1, 0.5])
def test_the_ablations_are_settings(rank, mu):
    for structure in ("reduction", "decomposition"):
        config = PFedLoRAConfig(rank=rank, mu=mu, structure=structure)
        check(config, "method.")
        assert PFedLoRA(config, spec()).adapter == Adapter(structure, rank, F, K)


@pytest.mark.parametrize("mu", [0.0, 0.6])
def test_mu_is_at_most_a_half(mu):
    with pytest.raises(ConfigError, match=r"method\.mu=.* is out of range: expected > 0 and ≤ 0\.5"):
        check(PFedLoRAConfig(mu=mu), "method.")


def test_features_of_different_width_are_refused_with_their_widths():
    family = Family((spec(), spec(width=7)))
    with pytest.raises(ConfigError, match=r"pFedLoRA shares .*linear: 4.*linear: 7"):
        method(family)
    assert method(family, site="input", mixing="output").adapter == Adapter("decomposition", RANK, D, K)


def test_an_adapter_that_no_client_would_learn_from_is_refused():
    with pytest.raises(ConfigError, match=r"method\.mixing=loss with method\.site=input: .*Set method\.mixing=output"):
        method(site="input", mixing="loss")
    method(site="input", mixing="loss", rank=0)  # no adapter at all


def test_token_ids_are_not_multiplied_with_matrices():
    options = {"vocabulary": 30, "width": 1.0, "depth": 2, "features": 32}
    texts = ModelSpec("transformer", (8,), K, tuple(options.items()))
    with pytest.raises(ConfigError, match=r"method\.site=input: token ids .*method\.structure=reduction"):
        method(texts, site="input", mixing="output")
    chain = method(texts, site="input", mixing="output", structure="reduction", rank=16).adapter.build()
    assert (len(chain.features.blocks), chain.features.embedding.embedding_dim, chain.head.in_features) == (2, 16, 16)


def test_a_reduced_chain_is_the_smallest_model_with_small_hidden_sizes():
    wide = ModelSpec("cnn", (3, 8, 8), K, (("depth", 2), ("width", 1.0)))
    small_one = ModelSpec("cnn", (3, 8, 8), K, (("depth", 2), ("width", 0.125)))
    settings = {"structure": "reduction", "site": "input", "mixing": "output"}
    chain = method(Family((wide, small_one)), **settings, rank=6).adapter.build()
    assert [tuple(value.shape) for value in chain.parameters()] == [
        (4, 3, 3, 3),  # as it was: narrower than 6
        (4,),
        (6, 4, 3, 3),
        (6,),
        (K, 6 * 2 * 2),
        (K,),
    ]
    with pytest.raises(
        ConfigError, match=r"model\.name=mclr has no hidden .* Choose mlp, .* Or set method\.site=features"
    ):
        method(ModelSpec("mclr", (3, 8, 8), K), **settings)


class Pooled(nn.Module):
    """The mean of token embeddings."""

    def __init__(self, vocabulary, width):
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, width)

    def forward(self, tokens):
        return self.embedding(tokens).mean(1)


def bag_of_words(input_shape, classes):
    return FeatureModel(Pooled(50, 8), nn.Linear(8, classes))


def text_transformer(input_shape, classes):
    layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.1, batch_first=True)
    tokens = nn.Embedding(50, 8)
    return FeatureModel(
        nn.Sequential(tokens, layer, nn.Flatten(), nn.Linear(8 * input_shape[0], 8)), nn.Linear(8, classes)
    )


def series_convolution(input_shape, classes):
    layers = [nn.Conv1d(input_shape[0], 6, 3), nn.ReLU(), nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(6, 8)]
    return FeatureModel(nn.Sequential(*layers), nn.Linear(8, classes))


class LastStep(nn.Module):
    """A recurrent layer's last state."""

    def __init__(self, channels, width):
        super().__init__()
        self.layer = nn.GRU(channels, width, batch_first=True)

    def forward(self, series):
        return self.layer(series.transpose(1, 2))[0][:, -1]


def series_recurrent(input_shape, classes):
    return FeatureModel(LastStep(input_shape[0], 8), nn.Linear(8, classes))


DRAW = np.random.default_rng(1)
TEXT = Dataset("text", DRAW.integers(0, 50, (24, 9)), np.arange(24) % 2, 2, vocabulary=50)
SERIES = Dataset("series", DRAW.normal(size=(24, 2, 15)).astype("f4"), np.arange(24) % 2, 2)


@pytest.mark.parametrize(
    ("data", "names"),
    [(TEXT, ("bag_of_words", "text_transformer")), (SERIES, ("series_convolution", "series_recurrent"))],
)
@pytest.mark.parametrize("structure", ["reduction", "decomposition"])
def test_the_same_adapter_serves_text_and_series(data, names, structure):
    family = Family(tuple(ModelSpec(f"{__name__}:{name}", data.input_shape, data.classes) for name in names))
    pfedlora = method(family, structure=structure, batch_size=8, steps=0, epochs=2)
    g, ups, rows = pfedlora.init_global(1), [], np.arange(24)
    for client in (0, 1):
        info = type(INFO)(client, None, 24, 24, np.array([12, 12]), "laptop", 1e9)
        down = pfedlora.to_client(g, info, {"epochs": 2, "steps": 0})
        result, work = drive(pfedlora, pfedlora.init_client(info, 2), down, info, rows=rows, data=data)
        assert work.flops > 0
        assert evaluate(pfedlora, result.state, info, rows, data).samples == 24
        ups.append(Received(client, 24, result.up))
    assert ups[0].message.theta.keys() == ups[1].message.theta.keys()
    assert fingerprint(pfedlora.global_step(g, ups, AT)) != fingerprint(g)
