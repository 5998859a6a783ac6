"""HAPFL against numpy: losses, mutual training, aggregation, and what its configuration refuses."""

import dataclasses

import numpy as np
import pytest
import torch

from strata.algorithms.hapfl import Down, Global, Hapfl, HapflConfig, MutualDistillation, Personal, Up
from strata.engine.build import build_world
from strata.engine.errors import ConfigError, EmptyCohortError
from strata.engine.method.length import Length
from strata.engine.method.losses import Batch
from strata.engine.method.messages import Context, Received
from strata.engine.models.spec import ModelSpec
from strata.engine.training.sequential import Sequential
from tests.helpers.arithmetic.linear import DATA, INFO, ROWS, D, K, arrays, fresh
from tests.helpers.moments import AT
from tests.helpers.small import small
from tests.helpers.training import lead

SPEC = ModelSpec("mlp", (D,), K, (("hidden", (8,)),))


def method(**changes):
    return Hapfl(HapflConfig(**{"lr": 0.3, "epochs": 2, "batch_size": 5, **changes}), SPEC)


def down_of(made, size=1, epochs=2, steps=0):
    g = made.init_global(7)
    return Down(g.lite, g.sizes[size], size, Length(epochs, steps))


def run(made, down, state=None, seed=3):
    steps = made.client_step(INFO, state or Personal(), down, Context(1, 1, seed))
    return lead(Sequential(DATA), steps, ROWS, ROWS, seed, "client 0")


class Fixed(torch.nn.Module):
    """Gives the logits it holds."""

    def __init__(self, local, lite):
        super().__init__()
        self.local, self.lite = torch.nn.Parameter(local), torch.nn.Parameter(lite)

    def forward(self, x):
        return {"local": self.local, "lite": self.lite}


def log_softmax(z):
    shifted = z - z.max(1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(1, keepdims=True))


@pytest.mark.parametrize(
    ("weights", "tau"), [((1.0, 1.0), 1.0), ((0.5, 2.0), 3.0), ((0.0, 0.7), 0.5), ((0.0, 0.0), 1.0)]
)
def test_losses_and_their_gradients_are_those_of_the_equations(weights, tau):
    rng = np.random.default_rng(0)
    local, lite, y = rng.normal(size=(6, 4)), rng.normal(size=(6, 4)), rng.integers(0, 4, 6)
    module = Fixed(torch.tensor(local), torch.tensor(lite))
    batch = Batch(torch.zeros(6, 1), torch.tensor(y))
    loss = batch.mean(MutualDistillation(*weights, tau)(module, batch))
    loss.backward()

    picked = np.arange(6), y
    log_p, log_q = log_softmax(local / tau), log_softmax(lite / tau)
    p, q = np.exp(log_p), np.exp(log_q)
    kl_local = (q * (log_q - log_p)).sum(1).mean()  # KL(q ‖ p): the LiteModel teaches
    kl_lite = (p * (log_p - log_q)).sum(1).mean()
    expected = -log_softmax(local)[picked].mean() - log_softmax(lite)[picked].mean()
    expected += tau**2 * (weights[0] * kl_local + weights[1] * kl_lite)
    assert float(loss.detach()) == pytest.approx(expected, rel=1e-12)

    # Teachers are constants: d KL(q ‖ p)/d z_local = (p − q)/τ, and nothing for z_lite of that term.
    onehot = np.eye(4)[y]
    own = np.exp(log_softmax(local)) - onehot, np.exp(log_softmax(lite)) - onehot
    np.testing.assert_allclose(module.local.grad, (own[0] + weights[0] * tau * (p - q)) / 6, atol=1e-12)
    np.testing.assert_allclose(module.lite.grad, (own[1] + weights[1] * tau * (q - p)) / 6, atol=1e-12)


@pytest.mark.parametrize("changes", [{"lambda_local": 0.0, "lambda_lite": 0.0}, {"distillation": False}], ids=str)
def test_without_distillation_mutual_training_is_two_separate_trainings(changes):
    made = method(**changes)
    down = down_of(made)
    result, _ = run(made, down)

    def alone(spec, start):
        answer = yield made.config.train(spec, start, down.length)
        return answer.params

    for found, spec, start in (
        (result.up.local, made.pool[1], down.local),
        (result.up.lite, made.lite, down.lite),
    ):
        expected, _ = lead(Sequential(DATA), alone(spec, start), ROWS, ROWS, 3, "alone")
        assert all((found[name] == value).all() for name, value in expected.items())
        assert any((found[name] != value).any() for name, value in start.items())
    together, _ = run(method(), down)
    assert any((together.up.local[name] != value).any() for name, value in result.up.local.items())


def test_a_call_reports_entropy_and_both_accuracies_and_keeps_the_local_model():
    made = method()
    result, work = run(made, down_of(made, size=3))
    counts = INFO.label_counts / INFO.label_counts.sum()
    assert result.up.entropy == pytest.approx(-(counts * np.log(counts)).sum())

    def accuracy(spec, params):
        module = spec.build()
        module.load_state_dict(params)
        return float((module(torch.from_numpy(DATA.x)).argmax(1).numpy() == DATA.y).mean())

    assert result.up.local_accuracy == accuracy(made.pool[3], result.up.local)
    assert result.up.lite_accuracy == accuracy(made.lite, result.up.lite)
    assert result.state == Personal(result.up.local, 3)
    assert result.metrics == {"entropy": result.up.entropy, "validation_accuracy": result.up.local_accuracy}
    assert work.steps == 2 * 3  # two epochs of 12 samples in batches of 5


def test_a_probe_is_one_epoch_of_the_lite_model_alone():
    made = method()
    down = made.probe(made.init_global(7))
    result, work = lead(Sequential(DATA), made.probe_step(INFO, down, Context(1, 0, 3)), ROWS, ROWS, 3, "probe")
    assert result.up is None
    assert work.samples == len(ROWS)

    def epoch():
        yield made.config.train(made.lite, down.lite, Length(1))

    assert work.flops == lead(Sequential(DATA), epoch(), ROWS, ROWS, 3, "epoch")[1].flops


@pytest.mark.parametrize(("steps", "samples"), [(0, 2 * 12), (4, 5 + 5 + 2 + 5)])
def test_intensity_counts_epochs_or_steps(steps, samples):
    made = method(steps=steps)
    assignment = made.default_assignment(INFO)
    down = made.to_client(made.init_global(7), INFO, assignment)
    assert run(made, down)[1].samples == samples


ENTROPY, LITE, LOCAL = [0.0, 0.7, 1.1, 0.4], [0.5, 0.1, 0.9, 0.3], [0.2, 0.6, 0.4, 0.8]
SAMPLES, SIZES = [10, 20, 5, 40], [1, 3, 1, 3]


def uploads(made, extra=({}, {}, {}, {})):
    ups = []
    for i, size in enumerate(SIZES):
        up = Up(fresh(made.lite, 10 + i), fresh(made.pool[size], 20 + i), ENTROPY[i], LITE[i], LOCAL[i])
        ups.append(Received(i, SAMPLES[i], up, {"size": size, "epochs": 2, **extra[i]}))
    return ups


def omega(variant, members, accuracy):
    h, a = (np.array([values[i] for i in members]) for values in (ENTROPY, accuracy))
    if variant == "entropy+accuracy":
        return h / h.sum() / 2 + a / a.sum() / 2
    raw = h * a if variant == "entropy*accuracy" else np.array([SAMPLES[i] for i in members], float)
    return raw / raw.sum()


def averaged(models, weights):
    return {name: sum(w * m[name] for m, w in zip(models, weights, strict=True)) for name in models[0]}


def assert_same(found, expected):
    for name, value in expected.items():
        np.testing.assert_allclose(found[name].double().numpy(), value, atol=1e-6, err_msg=name)


@pytest.mark.parametrize("variant", ["entropy+accuracy", "entropy*accuracy", "samples"])
def test_lite_models_are_averaged_over_all_and_local_ones_over_their_size(variant):
    made = method(weighting=variant)
    g, ups = made.init_global(7), uploads(made)
    after = made.global_step(g, ups, AT)
    everyone = [0, 1, 2, 3]
    lites, locals_ = [arrays(up.message.lite) for up in ups], [arrays(up.message.local) for up in ups]
    assert_same(after.lite, averaged(lites, omega(variant, everyone, LITE)))
    for size, members in ((1, [0, 2]), (3, [1, 3])):
        expected = averaged([locals_[i] for i in members], omega(variant, members, LOCAL))
        assert_same(after.sizes[size], expected)
    for size in (0, 2):  # nobody trained these
        assert after.sizes[size] is g.sizes[size]


def test_weights_that_an_agent_set_stand_in_for_omega():
    made, weights = method(), [0.1, 0.2, 0.3, 0.4]
    ups = uploads(made, [{"weight": w} for w in weights])
    after = made.global_step(made.init_global(7), ups, AT)
    assert_same(after.lite, averaged([arrays(up.message.lite) for up in ups], weights))
    locals_ = [arrays(ups[i].message.local) for i in (1, 3)]
    assert_same(after.sizes[3], averaged(locals_, [0.2 / 0.6, 0.4 / 0.6]))


@pytest.mark.parametrize("variant", ["entropy+accuracy", "entropy*accuracy"])
def test_clients_of_one_label_who_get_nothing_right_count_equally(variant):
    made = method(weighting=variant)
    ups = [
        dataclasses.replace(up, message=dataclasses.replace(up.message, entropy=0.0, lite_accuracy=0.0))
        for up in uploads(made)
    ]
    assert made.weights(ups, [0.0] * 4) == [0.25] * 4


def test_nothing_to_aggregate_is_refused():
    with pytest.raises(EmptyCohortError, match="HAPFL: nothing to aggregate"):
        method().global_step(Global({}, ()), [], AT)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["method.pool=[1.0,0.5]"], r"method.pool=\[1.0, 0.5\]: expected widths in ascending order"),
        (["method.pool=[]"], "expected widths in ascending order"),
        (["method.default_size=4"], "method.default_size=4 is out of range: method.pool has the sizes 0 to 3"),
        (["agents.policy=gredy"], "hapfl knows no such policy. Did you mean greedy"),
        (["agents.policy=rllib", "agents.layout=sizes+intensity"], r"no such layout. Did you mean size\+intensity"),
        (["agents.policy=rllib", "agents.mode=freeze"], "there is nothing learnt to freeze"),
        (["agents.policy=greedy", "agents.checkpoint=x"], "only learnt agents have one"),
        (["agents.lr={size: 0}"], "agents.lr.size=0 is out of range: expected > 0"),
    ],
    ids=str,
)
def test_mistakes_in_the_configuration_are_found_before_anything_starts(words, message):
    with pytest.raises(ConfigError, match=message):
        small("hapfl", *words)


def test_models_of_one_size_only_are_refused():
    with pytest.raises(
        ConfigError, match=r"model\.name=mclr comes in one size only.*Choose cnn, mlp, cnn_series or transformer"
    ):
        build_world(small("hapfl", "model=mclr"))


def test_methods_without_decisions_refuse_agents():
    with pytest.raises(ConfigError, match=r"agents\.policy=rllib: standalone leaves no decisions to agents"):
        small("standalone", "agents.policy=rllib")
