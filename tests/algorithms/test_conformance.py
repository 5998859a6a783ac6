"""What every method owes the engine. A new file in ``algorithms/`` is tested here without touching anything."""

import copy
import dataclasses
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from strata.engine.build import build_world
from strata.engine.config.load import load_config
from strata.engine.errors import ConfigError, EmptyCohortError
from strata.engine.federation import Federation
from strata.engine.method.algorithm import FlatAlgorithm, TieredAlgorithm
from strata.engine.method.find import load_method, method_names
from strata.engine.method.messages import ClientInfo, Context, Received
from strata.engine.method.mirrors import changed
from strata.engine.models.spec import Family, ModelSpec
from strata.engine.rounds.clients import ClientHost
from strata.engine.rounds.pools import EvaluationCall
from strata.engine.state import checkpoint
from strata.engine.state.types import state_types
from strata.engine.training.sequential import Sequential
from strata.engine.tree import count_bytes, fingerprint, from_wire, leaves, to_wire
from tests.helpers.moments import AT, TEAM
from tests.helpers.small import small
from tests.helpers.training import lead

METHODS = method_names()
FOR_ALL = ("scaffold",)  # clients descend on everybody's loss, and their own, from which rounds begin, may rise


@pytest.fixture(scope="module", params=METHODS)
def world(request):
    return build_world(small(request.param))


def client_call(world, method, state, down, client=0, seed=7):
    rows = world.data.clients[client]
    steps = method.client_step(world.infos[client], state, down, Context(1, 1, seed))
    return lead(Sequential(world.data.dataset), steps, rows.train, rows.test, seed, "client")


def one_round(world):
    """Every message and state of one round with two clients, in the order in which they are made."""
    method = world.algorithm
    g = method.init_global(1)
    made = {"global": g}
    owner = g
    if isinstance(method, TieredAlgorithm):
        made["team down"] = method.to_team(g, TEAM, {}, AT)
        owner = made["team"] = method.start_team(made["team down"], None)
    ups = []
    for client in (0, 1):
        info = world.infos[client]
        state = made[f"client {client} before"] = method.init_client(info, 5)
        told = method.default_assignment(info)
        down = made[f"down {client}"] = method.to_client(owner, info, told)
        result, _ = client_call(world, method, state, down, client)
        made[f"up {client}"], made[f"client {client}"] = result.up, result.state
        ups.append(Received(client, info.train_samples, result.up, told))
    if isinstance(method, TieredAlgorithm):
        made["team after"] = method.team_step(owner, ups, AT)
        made["team up"] = method.to_global(made["team after"])
        ups = [Received(0, 1, made["team up"])]
    made["global after"] = method.global_step(g, ups, AT)
    return made


def test_there_are_methods_and_each_has_its_yaml():
    assert {"fedavg", "fedprox", "hsgd", "permfl"} <= set(METHODS)
    for name in METHODS:
        assert Path("algorithms", f"{name}.yaml").is_file(), f"algorithms/{name}.yaml is missing"
        assert load_config(name).algorithm == name


def test_it_is_flat_or_tiered_and_says_how_it_is_configured(world):
    assert isinstance(world.algorithm, FlatAlgorithm | TieredAlgorithm)
    assert dataclasses.is_dataclass(type(world.algorithm).Config)
    for field in dataclasses.fields(type(world.algorithm).Config):
        assert field.metadata.get("help"), f"{field.name} has no help text"


def test_its_module_cites_its_source_and_lists_deviations(world):
    import sys

    text = sys.modules[type(world.algorithm).__module__].__doc__
    # A preprint's or a paper's number, or the conference and its year.
    assert re.search(r"arXiv \d{4}\.\d{5}\b|doi 10\.\d{4,}/\w|[A-Z]{2}\w* (19|20)\d\d\b", text)
    assert "Deviations" in text or "Choices of ours" in text


def test_the_same_seed_gives_the_same_bits(world):
    first, second = one_round(world), one_round(world)
    assert {k: fingerprint(v) for k, v in first.items()} == {k: fingerprint(v) for k, v in second.items()}
    # A method whose global state is empty changes its clients and nothing else.
    owner = ("global", "global after") if list(leaves(first["global"])) else ("client 0 before", "client 0")
    assert fingerprint(first[owner[0]]) != fingerprint(first[owner[1]])


def test_steps_do_not_change_what_they_are_given(world):
    method = world.algorithm
    made = one_round(world)
    before = {key: fingerprint(value) for key, value in made.items()}
    client_call(world, method, made["client 0"], made["down 0"])
    ups = [Received(c, 3, made[f"up {c}"], method.default_assignment(world.infos[c])) for c in (0, 1)]
    if isinstance(method, TieredAlgorithm):
        method.team_step(made["team"], ups, AT)
        method.to_global(made["team after"])
        ups = [Received(0, 1, made["team up"])]
    method.global_step(made["global"], ups, AT)
    assert {key: fingerprint(value) for key, value in made.items()} == before


def test_messages_have_a_price_and_are_frozen(world):
    made = one_round(world)
    for key, message in made.items():
        if key.startswith(("down", "up", "team down", "team up")):
            assert dataclasses.is_dataclass(message), f"{key} is a {type(message).__name__}"
            assert message.__dataclass_params__.frozen, f"{key} can be changed on its way"
            assert count_bytes(message) == sum(
                leaf.numel() * leaf.element_size() if isinstance(leaf, torch.Tensor) else 8
                for _, leaf in leaves(message)
                if leaf is not None
            )
            assert count_bytes(message) > 0 or not dataclasses.fields(message), f"{key} carries nothing"


def test_states_and_messages_survive_the_wire_and_the_disk(world, tmp_path):
    made = one_round(world)
    assert fingerprint(from_wire(copy.deepcopy(to_wire(made)))) == fingerprint(made)
    types = state_types(world.algorithm)
    path = checkpoint.save(tmp_path, 1, made, {}, 1, types)
    assert fingerprint(checkpoint.load(path, {}, types)) == fingerprint(made)


def test_an_empty_cohort_is_refused(world):
    method, made = world.algorithm, one_round(world)
    with pytest.raises(EmptyCohortError, match="nothing to aggregate"):
        method.global_step(made["global"], [], AT)
    if isinstance(method, TieredAlgorithm):
        with pytest.raises(EmptyCohortError, match="nothing to aggregate"):
            method.team_step(made["team"], [], AT)


def test_it_learns(world):
    config = small(world.algorithm.__module__.removeprefix("strata.algorithms."), "rounds=6")
    with Federation(config) as federation:
        records = list(federation)
    losses = [record.train_loss for record in records]
    if config.algorithm not in FOR_ALL:
        assert losses[-1] < losses[0], f"training loss went {losses}"
    first, last = records[0].scores, records[-1].scores
    kind = "GM" if "GM" in last else "PM"  # a method without a global model is scored by its personal ones
    assert last[kind].loss < first[kind].loss
    assert max(scores.accuracy for scores in last.values()) > 0.3  # chance is 0.1


def test_a_client_that_was_never_called_is_evaluated_too(world):
    host = ClientHost(world, "cpu")
    method = world.algorithm
    model = method.global_model(method.init_global(1))
    shared = {} if model is None else {"GM": model}
    scores = host.evaluate(EvaluationCall([0], shared))[0]
    assert set(scores) == set(shared) | ({"PM"} if method.has_personal_model else set())
    assert scores
    assert all(score.samples == len(world.data.clients[0].test) for score in scores.values())


def test_it_is_scored_by_personal_models_before_and_after_training_if_it_says_so(world):
    method, made = world.algorithm, one_round(world)
    shared = {name: model for name, model in [("GM", method.global_model(made["global"]))] if model is not None}
    rows = world.data.clients[0]
    for state in (None, made["client 0"]):
        steps = method.client_evaluate(world.infos[0], state, shared)
        scores, _ = lead(Sequential(world.data.dataset), steps, rows.train, rows.test, 7, "client")
        assert ("PM" in scores) == type(method).has_personal_model
    if not method.has_personal_model:
        assert method.personal_model(made["client 0"]) is None


def test_it_takes_a_family_if_it_says_so_and_refuses_it_if_not(world):
    kind, config = type(world.algorithm), world.algorithm.config
    inputs = (world.data.dataset.input_shape, world.data.dataset.classes)
    family = Family(tuple(ModelSpec("mlp", *inputs, (("hidden", hidden),)) for hidden in ((8,), (16, 8))))
    if not kind.takes_families:
        with pytest.raises(ConfigError, match=r"(?i)family"):
            kind(config, family).init_global(1)
        return
    method = kind(config, family)
    models = [method.personal_model(method.init_client(info, 1)) for info in world.infos[:2]]
    assert [len(model) for model in models] == [4, 6]


def test_its_clients_report_choices_if_it_says_so(world):
    method = world.algorithm
    info, g = world.infos[0], method.init_global(1)
    owner = method.start_team(method.to_team(g, TEAM, {}, AT), None) if isinstance(method, TieredAlgorithm) else g
    down = method.to_client(owner, info, method.default_assignment(info))
    result, _ = client_call(world, method, method.init_client(info, 5), down)
    assert any(map(method.is_choice, result.metrics)) == type(method).has_choices


def test_teams_stay_as_they_are_unless_it_says_that_it_regroups(world):
    method = world.algorithm
    if isinstance(method, TieredAlgorithm) and not method.regroups:
        topology = {0: [0, 2], 1: [1]}
        assert method.regroup(method.init_global(1), topology, AT) == topology


def test_it_has_a_probe_where_its_control_wants_one(world):
    control = world.algorithm.Control
    if control is not None and control.probes:
        assert world.algorithm.probe(world.algorithm.init_global(1)) is not None


def test_its_server_knows_no_more_than_a_mean_if_it_says_so(world):
    method = world.algorithm
    if not method.averages:
        return
    g = method.init_global(1)
    found = []
    for shifts in ((-1.0, 0.25, 3.0), (0.5, 0.75, 1.0)):  # of one mean
        ups = []
        for client, shift in enumerate(shifts):
            info = world.infos[client]
            down = method.to_client(g, info, method.default_assignment(info))
            up = client_call(world, method, method.init_client(info, 5), down, client)[0].up
            moved = changed(up, None, lambda path, value, _, by=shift: torch.full_like(value, by))
            ups.append(Received(client, 1, moved))
        found.append(method.global_step(g, ups, AT))
    for (path, one), (_, other) in zip(leaves(found[0]), leaves(found[1]), strict=True):
        assert not isinstance(one, torch.Tensor) or torch.allclose(one, other, atol=1e-5), path


def test_infos_carry_what_agents_need(world):
    info = world.infos[0]
    assert isinstance(info, ClientInfo)
    assert info.label_counts.sum() == info.train_samples
    assert isinstance(info.label_counts, np.ndarray)
    assert info.flops_per_s > 0


def test_unknown_methods_are_named_with_the_closest():
    with pytest.raises(ConfigError, match="Did you mean permfl"):
        load_method("permlf")


def played(method, width, rounds):
    """Digests, all state, and why requests were answered one by one, of a small run with partial batches."""
    words = ("clients.count=4", f"rounds={rounds}", "data.limit=330", f"training.batch_clients={width}")
    with Federation(small(method, *words)) as federation:
        list(federation)
        snapshot = federation.rounds.snapshot()
        return federation.fingerprint(), (snapshot.server, snapshot.teams, snapshot.clients), dict(federation.singly)


FALLING_BACK = {"fedtp": "batch norm", "perfedrlnas": "batch norm", "fedproto": "features are averaged"}


@pytest.mark.parametrize(
    "method", [pytest.param(m, marks=[pytest.mark.exhaustive] * (m in ("fedtp", "perfedrlnas"))) for m in METHODS]
)
def test_clients_answered_together_come_close_to_one_by_one_whoever_is_beside(method):
    assert played(method, 4, rounds=2)[0] == played(method, 2, rounds=2)[0]
    (_, alone, _), (_, together, singly) = played(method, 1, rounds=1), played(method, 4, rounds=1)
    for (path, one), (_, other) in zip(leaves(alone), leaves(together), strict=True):
        if isinstance(one, torch.Tensor):
            torch.testing.assert_close(other, one, rtol=1e-4, atol=1e-4, msg=lambda text, path=path: f"{path}: {text}")
    expected = FALLING_BACK.get(method)
    assert all(expected and reason.startswith(expected) for reason in singly)
    assert bool(singly) == (expected is not None)
