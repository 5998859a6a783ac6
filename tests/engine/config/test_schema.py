"""What single settings cannot see: groups that do not fit each other, or their method."""

from dataclasses import replace

import pytest

from strata.algorithms.permfl import PerMFL
from strata.engine.config.load import load_config
from strata.engine.config.schema import ClientsConfig, ResourceConfig, TeamsConfig, for_seed
from strata.engine.errors import ConfigError
from strata.engine.options import check


@pytest.mark.parametrize("kind", [ClientsConfig, TeamsConfig])
def test_a_tier_with_a_deadline_needs_one(kind):
    with pytest.raises(ConfigError, match=r"tier\.deadline_s=0: tier\.mode=deadline needs a deadline > 0"):
        check(kind(mode="deadline"), "tier.")
    check(kind(mode="deadline", deadline_s=0.1), "tier.")
    check(kind(mode="sync"), "tier.")


@pytest.mark.parametrize("gpus", [0.0, 0.25, 1.0, 2.0])
def test_gpus_are_a_part_of_one_or_whole_ones(gpus):
    check(ClientsConfig(num_gpus=gpus, classes={"laptop": ResourceConfig(num_gpus=gpus)}))


def test_a_part_of_several_gpus_is_refused_wherever_it_stands():
    with pytest.raises(ConfigError, match=r"clients\.num_gpus=1\.5 is out of range: expected a fraction ≤ 1, or a"):
        check(ClientsConfig(num_gpus=1.5), "clients.")
    with pytest.raises(ConfigError, match=r"clients\.classes\.laptop\.num_gpus=2\.5 is out of range"):
        check(ClientsConfig(classes={"laptop": ResourceConfig(num_gpus=2.5)}), "clients.")
    with pytest.raises(ConfigError, match=r"clients\.classes\.laptop\.num_cpus=0 is out of range"):
        check(ClientsConfig(classes={"laptop": ResourceConfig(num_cpus=0)}), "clients.")


@pytest.mark.parametrize(
    ("method", "said", "message"),
    [
        ("fedavg", ["model.family=[mlp, cnn]"], r"model\.family: fedavg gives every client the same architecture"),
        ("fedavg", ["model=cnn_five"], r"model\.name=cnn_five: fedavg gives every client"),
        ("pfedme", ["agents.policy=greedy"], r"agents\.policy=greedy: pfedme leaves no decisions to agents"),
        ("hapfl", ["agents.policy=gredy"], r"hapfl knows no such policy\. Did you mean greedy\?"),
        ("hapfl", ["agents.layout=size"], r"agents\.layout=size: hapfl has no such layout"),
        ("permfl", ["clients.count=3", "teams.count=4"], r"teams\.count=4 .* clients\.count=3, expected ≥ 1 and ≤ 3"),
        ("fedavg", ["seeds=[2,3,2]"], r"seeds=\[2, 3, 2\]: every seed may be given once"),
        ("fedavg", ["clients_per_actor=true"], r"clients_per_actor=True: expected auto or a whole number ≥ 1"),
        (
            "fedavg",
            ["clients.mode=async", "clients.concurrency=4", "clients.buffer=5"],
            r"clients\.buffer=5 is out of range: with clients\.concurrency=4, expected ≥ 1 and ≤ 4",
        ),
        (
            "fedavg",
            ["clients.mode=async", "clients.concurrency=9", "clients.buffer=6", "clients.count=5"],
            r"clients\.buffer=6 is out of range: with 5 of 5 clients on a call at a time, expected ≥ 1 and ≤ 5",
        ),
        (
            "fedavg",
            ["clients.mode=async", "clients.participation=0.2", "clients.buffer=3", "clients.count=10"],
            r"clients\.buffer=3 is out of range: with 2 of 10 clients on a call at a time, expected ≥ 1 and ≤ 2",
        ),
        ("permfl", ["teams.mode=async", "teams.buffer=5"], r"teams\.buffer=5 .* with 4 of 4 teams .* ≥ 1 and ≤ 4"),
        ("al2gd", ["clients.mode=async"], r"al2gd draws what each round is\. Expected no async"),
        ("al2gd", ["teams.mode=async"], r"clients\.mode, teams\.mode: al2gd draws what"),
        ("fedavg", ["clients.max_staleness=-2"], r"clients\.max_staleness=-2 is out of range: expected ≥ -1"),
        ("fedavg", ["clients.staleness=linear"], r"clients\.staleness='linear': expected one of constant, polynomial"),
        ("fedavg", ["clients_per_actor=1.0"], r"clients_per_actor=1\.0: expected auto"),
    ],
)
def test_what_does_not_fit_the_method_or_another_group_is_refused(method, said, message):
    with pytest.raises(ConfigError, match=message):
        load_config(method, said)


@pytest.mark.parametrize(
    ("method", "said"),
    [
        ("pfedlora", ["model.family=[mlp, cnn]"]),
        ("fedavg", ["clients.count=3", "teams.count=4"]),  # a flat method has no teams
        ("hapfl", ["agents.policy=greedy"]),
        ("pfedme", ["agents.hidden=3"]),
        ("fedavg", ["clients_per_actor=7", "seeds=[2,3]"]),
        ("fedavg", ["clients.mode=async", "clients.participation=0.2", "clients.buffer=8"]),  # of 40
        ("fedavg", ["clients.mode=async", "clients.concurrency=99", "clients.buffer=40"]),
        ("fedavg", ["teams.mode=async", "clients.mode=async"]),  # a flat method has no teams
        ("permfl", ["teams.mode=async", "teams.buffer=4"]),
        ("permfl", ["teams.mode=async", "clients.mode=async", "teams.buffer=4", "clients.buffer=9"]),
        ("tests.helpers.regrouping", ["teams.mode=async"]),
        ("permfl", ["clients.mode=async", "clients.buffer=99"]),  # at most all that are on a call in a team
    ],
)
def test_what_fits_is_taken(method, said):
    assert load_config(method, said).algorithm == method


def test_the_configuration_of_one_seed_has_that_one_only():
    config = load_config("permfl", ["seed=5", "seeds=[7,8]", "rounds=3"])
    assert for_seed(config, 8) == replace(config, seed=8, seeds=[])
    assert (config.seed, config.seeds) == (5, [7, 8])
    assert config.method_class is PerMFL
