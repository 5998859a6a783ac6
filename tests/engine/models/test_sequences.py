"""Models for texts and series, alone and under the methods whose clients have models of their own."""

import numpy as np
import pytest
import torch
from torch import nn

from strata.engine.build import build_world
from strata.engine.config.load import load_config
from strata.engine.data.dataset import TokenShape
from strata.engine.determinism import torch_scope
from strata.engine.errors import ConfigError
from strata.engine.federation import Federation
from strata.engine.method.length import Length
from strata.engine.method.losses import Batch
from strata.engine.method.requests import Sgd, Train
from strata.engine.models.base import FeatureModel, init_params, parameter_count
from strata.engine.models.config import ModelConfig
from strata.engine.models.factory import spec_of
from strata.engine.models.sequences import projection_names
from strata.engine.models.spec import Family, feature_width, scaled
from strata.engine.training.flops import count_step_flops
from strata.engine.tree import fingerprint
from tests.helpers.arithmetic.references import chained, encoder_layer

TOKENS = TokenShape((6,), 20)
METHODS = ("standalone", "lg_fedavg", "fml", "fedkd", "fedproto", "pfedlora")


def spec(name, shape, classes=3, **settings):
    return spec_of(ModelConfig(name=name, **settings), shape, classes)


def built(made):
    with torch_scope(0):
        return made.build().eval()


def dense(inputs, outputs):
    return inputs * outputs + outputs


def conv(inputs, outputs):
    return inputs * outputs * 5 + outputs


def transformer(vocabulary, length, width, depth, features, classes):
    # Embeddings, positions; per block four projections, two norms and an MLP; a norm, two dense layers.
    block = 4 * dense(width, width) + 4 * width + dense(width, 2 * width) + dense(2 * width, width)
    return (vocabulary + length + 2) * width + depth * block + dense(width, features) + dense(features, classes)


def test_transformers_have_their_sizes():
    made = spec("transformer", TOKENS, depth=3, width=0.5, features=7)
    assert parameter_count(made) == transformer(20, 6, 32, 3, 7, 3)
    assert parameter_count(scaled(made, 2.0)) == transformer(20, 6, 64, 3, 7, 3)
    assert parameter_count(spec("transformer", TOKENS, width=0.01)) == transformer(20, 6, 16, 2, 500, 3)
    family = spec("transformer_five", TOKENS, features=9)
    sizes = [(96, 3), (96, 2), (64, 2), (64, 1), (32, 1)]
    assert [parameter_count(m) for m in family.members] == [transformer(20, 6, w, d, 9, 3) for w, d in sizes]
    assert {feature_width(member) for member in family.members} == {9}
    assert spec("transformer_five_2", TOKENS, features=9) == family.members[1]


def test_series_models_have_their_sizes():
    # Padded convolutions keep 46 steps, poolings halve them: 46 → 23 → 11.
    expected = conv(6, 16) + conv(16, 32) + dense(32 * 11, 7) + dense(7, 3)
    assert parameter_count(spec("cnn_series", (6, 46), width=0.5, features=7)) == expected
    # Without padding: 46 → 42 → 21 → 17 → 8.
    family = spec("cnn_series_five", (46,), width=0.1, features=7)
    shapes = ((32, 200), (16, 200), (32, 100), (32, 80), (32, 50))
    for member, (channels, first) in zip(family.members, shapes, strict=True):
        expected = conv(1, 16) + conv(16, channels) + dense(channels * 8, first) + dense(first, 7) + dense(7, 3)
        assert parameter_count(member) == expected
    assert {feature_width(member) for member in family.members} == {7}


SERIES = [(name, shape) for name in ("cnn_series", "cnn_series_five_4") for shape in ((16,), (1, 16), (6, 100))]


def encoded(module, texts):
    """Features and logits of a text model, by torch's own encoder layers; token 0 is padding."""
    w, held = module.state_dict(), texts != 0
    x = w["features.embedding.weight"][texts] + w["features.positions"]
    for block in module.features.blocks:
        x = encoder_layer(block, 16, "gelu")(x, src_key_padding_mask=~held).detach()
    x = nn.functional.layer_norm(x, x.shape[2:], w["features.norm.weight"], w["features.norm.bias"])
    means = torch.stack([words[kept].mean(0) for words, kept in zip(x, held, strict=True)])
    features = (means @ w["features.dense.weight"].T + w["features.dense.bias"]).relu()
    return features, features @ w["head.weight"].T + w["head.bias"]


@pytest.mark.parametrize(("name", "shape"), [*SERIES, ("transformer", TOKENS), ("transformer_five_1", TOKENS)])
def test_logits_are_the_head_of_the_features(name, shape):
    made = spec(name, shape)
    module = built(made)
    assert isinstance(module, FeatureModel)
    if isinstance(shape, TokenShape):
        x = torch.arange(4 * 6).reshape(4, 6) % 20  # two of the texts have padding in them
        features, logits = encoded(module, x)
    else:
        with torch_scope(0):
            x = torch.randn(4, *shape)
        channelled = x[:, None] if len(shape) == 1 else x
        features, logits = chained(module, channelled, padding=2 if name == "cnn_series" else 0)
    assert features.shape == (4, 500)
    torch.testing.assert_close(module.features(x), features)
    torch.testing.assert_close(module(x), logits)
    first, again, other = (init_params(made, seed) for seed in (3, 3, 4))
    assert fingerprint(first) == fingerprint(again) != fingerprint(other)


def test_a_flat_series_is_one_of_a_single_channel():
    flat, channelled = (built(spec("cnn_series", shape)) for shape in ((16,), (1, 16)))
    renamed = dict(zip(flat.state_dict(), channelled.state_dict().values(), strict=True))
    flat.load_state_dict(renamed)
    x = torch.linspace(-1, 1, 32).reshape(2, 16)
    assert torch.equal(flat(x), channelled(x[:, None]))


def test_padding_has_no_influence():
    module = built(spec("transformer", TOKENS))
    texts = torch.tensor([[2, 7, 3], [4, 0, 0], [5, 6, 0]])
    logits = module(nn.functional.pad(texts, (0, 3)))
    # Neither more padding, nor the embedding of padding, nor the positions it stands on change anything.
    torch.testing.assert_close(module(texts), logits)
    with torch.no_grad():
        module.features.embedding.weight[0] = 100.0
        module.features.positions[3:] = -50.0
    torch.testing.assert_close(module(nn.functional.pad(texts, (0, 3))), logits)
    # The order of words does, and so does every word.
    assert not torch.allclose(module(texts.flip(1)[:1]), logits[:1])


def test_a_text_without_words_is_no_accident():
    module = built(spec("transformer", TOKENS)).train()
    loss = module(torch.zeros(2, 6, dtype=torch.int64)).square().sum()
    loss.backward()
    assert torch.isfinite(loss)
    assert all(torch.isfinite(p.grad).all() for p in module.parameters() if p.grad is not None)


def test_flops_of_attention_are_counted():
    made = spec("transformer", TOKENS, width=0.25, depth=1, features=5)
    x = torch.zeros(2, 6, dtype=torch.int64)
    request = Train(made, init_params(made, 0), Sgd(0.1), 2, Length(steps=1))
    # B·L = 12 tokens of width 16: four projections and an MLP of twice the width; scores and mixing of one head.
    block = 12 * (4 * 16 * 16 + 2 * 16 * 32) + 2 * 2 * 6 * 6 * 16
    behind = 2 * (16 * 5 + 5 * 3)
    # Two operations a multiplication; backward takes twice the forward pass, for embeddings are trained too.
    assert count_step_flops(request, Batch(x, torch.zeros(2, dtype=torch.int64))) == 3 * 2 * (block + behind)


@pytest.mark.parametrize("name", ["mclr", "mlp", "cnn", "cnn_five", "cnn_series", "vit_small"])
def test_other_models_refuse_text(name):
    with pytest.raises(ConfigError, match=r"does not take text: inputs are rows of 6 token ids below 20.*transformer"):
        spec(name, TOKENS)


@pytest.mark.parametrize(
    ("name", "shape", "message"),
    [
        ("transformer", (1, 28, 28), r"shape \(1, 28, 28\): it needs texts as token ids; data.text=COLUMN"),
        ("transformer_five", (60,), "it needs texts as token ids"),
        ("cnn_series", (1, 28, 28), r"it needs series \(channels, length\), or \(length,\), of at least 4 steps"),
        ("cnn_series", (6, 3), "at least 4 steps"),
        ("cnn_series_five", (6, 15), "at least 16 steps"),
        ("cnn", (6, 100), r"it needs images \(channels, height, width\)"),
    ],
)
def test_misfits_say_what_is_needed(name, shape, message):
    with pytest.raises(ConfigError, match=message):
        spec(name, shape)


def own_model(input_shape, classes, vocabulary):
    return FeatureModel(nn.Sequential(nn.Embedding(vocabulary, 4), nn.Flatten()), nn.Linear(24, classes))


def test_a_factory_of_ones_own_takes_text():
    made = spec(f"{__name__}:own_model", TOKENS, options={"vocabulary": 20})
    assert parameter_count(made) == 20 * 4 + dense(24, 3)


@pytest.fixture(scope="module")
def sentences(tmp_path_factory):
    """Write 400 sentences: what they are about is said by one of six words among others."""
    draws = np.random.default_rng(0)
    said = {0: ("awful", "dull", "poor"), 1: ("fine", "great", "superb")}
    lines = []
    for row in range(400):
        about = draws.choice(["the", "film", "actor", "plot", "was", "and"], draws.integers(3, 9)).tolist()
        about.insert(draws.integers(len(about)), draws.choice(said[row % 2]))
        lines.append(f"{' '.join(about)},{row % 2}")
    path = tmp_path_factory.mktemp("text") / "sentences.csv"
    path.write_text("\n".join(["text,label", *lines]))
    return path


@pytest.fixture(scope="module")
def series(tmp_path_factory):
    """Write a UCR set: sines of two frequencies at any phase, labelled 1 and 2."""
    draws, steps = np.random.default_rng(0), np.arange(24)
    folder = tmp_path_factory.mktemp("ucr")
    for part, rows in (("TRAIN", 60), ("TEST", 100)):
        lines = []
        for row in range(rows):
            wave = np.sin(steps * (0.4, 1.2)[row % 2] + draws.uniform(0, 6)) + draws.normal(0, 0.1, 24)
            lines.append("\t".join([str(1 + row % 2), *(f"{value:.4f}" for value in wave)]))
        (folder / f"Sine_{part}.tsv").write_text("\n".join(lines))
    return folder / "Sine"


SMALL = ("runtime=inprocess", "clients.count=4", "tracking.wandb=disabled", "partition=iid", "method.batch_size=8")


def configured(method, data, *words):
    text = data.suffix == ".csv"
    kind = ("data.text=text", "data.length=8", "model.name=transformer_five") if text else ("model=cnn_series_five",)
    small = ("model.width=0.25", "model.features=16", "method.lr=0.05", "method.epochs=2", "evaluation.every=1")
    return load_config(method, [*SMALL, f"data={data}", *kind, *small, *words])


def accuracies(config):
    with Federation(config) as federation:
        return [record.scores["PM"].accuracy for record in federation if record.scores]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("data", ["sentences", "series"])
def test_every_heterogeneous_method_takes_them(method, data, request):
    config = configured(method, request.getfixturevalue(data), "rounds=1")
    assert isinstance(build_world(config).algorithm.family, Family)
    assert len(accuracies(config)) == 1


@pytest.mark.parametrize(("data", "model"), [("sentences", "transformer"), ("series", "cnn_series")])
def test_fedavg_takes_one_of_them(data, model, request):
    config = configured("fedavg", request.getfixturevalue(data), f"model.name={model}", "rounds=1")
    with Federation(config) as federation:
        (record,) = federation
        world, w = federation.world, federation.rounds.snapshot().server.w
    dataset, rows = world.data.dataset, np.concatenate([client.test for client in world.data.clients])
    module = world.algorithm.model.build().eval()
    module.load_state_dict(w)
    right = module(torch.from_numpy(dataset.x[rows])).argmax(1).numpy() == dataset.y[rows]
    assert record.scores.keys() == {"GM"}
    assert record.scores["GM"].accuracy == pytest.approx(right.mean())
    assert len(rows) > 0


@pytest.mark.parametrize("data", ["sentences", "series"])
def test_they_learn(data, request):
    settings = ("rounds=6", "method.momentum=0.9", "method.mixing=output")
    # 100 test sentences, and 40 test series; chance is a half: 0.8 is at least 3.8 standard deviations above it.
    assert accuracies(configured("pfedlora", request.getfixturevalue(data), *settings))[-1] > 0.8


def test_rank_0_is_standalone_on_text(sentences):
    plain = accuracies(configured("standalone", sentences, "rounds=2"))
    assert accuracies(configured("pfedlora", sentences, "rounds=2", "method.rank=0")) == plain


def test_a_run_on_text_goes_on_where_it_was_saved(sentences, tmp_path):
    config = configured("pfedlora", sentences, "rounds=2")
    with Federation(config) as whole:
        first, second = list(whole)
    with Federation(config) as started:
        assert started.run_round().scores == first.scores
        path = started.save(tmp_path)
    with Federation(config) as restored:
        restored.restore(path)
        assert restored.run_round().scores == second.scores


def test_projections_are_those_to_queries_keys_and_values_of_every_layer():
    names = projection_names(spec("transformer", TOKENS, depth=2))
    layers = [f"features.blocks.{block}.attention.{part}" for block in (0, 1) for part in "qkv"]
    assert names == tuple(f"{layer}.{kind}" for layer in layers for kind in ("weight", "bias"))
    assert projection_names(spec("mlp", (6,), hidden=[4])) == ()
