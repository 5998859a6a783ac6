"""Numbers too large or too small to be meant are refused with the figure, before anything of them is made."""

import dataclasses

import pytest

from strata.engine.config.load import load_config
from strata.engine.config.schema import RunConfig
from strata.engine.errors import ConfigError, ResourceError, StrataError
from strata.engine.federation import Federation
from strata.engine.method.find import method_names
from tests.helpers.small import small_overrides


def numbers(config, path=""):
    """Keys of the settings that are a number, with it; those of the method aside."""
    for field in dataclasses.fields(config):
        value, key = getattr(config, field.name), f"{path}{field.name}"
        if dataclasses.is_dataclass(value):
            yield from numbers(value, f"{key}.")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            yield key, value


RUN = dict(numbers(RunConfig()))


@pytest.mark.parametrize("key", RUN)
def test_no_number_of_a_run_is_beyond_what_models_and_clocks_can_hold(key):
    values = [10**19, 10**5000] if isinstance(RUN[key], int) else [1e308, 1e-308]
    for value in values:
        with pytest.raises(ConfigError, match=r"is out of range: expected|no such|expected .*0 to 1"):
            load_config("permfl", {key: value})


@pytest.mark.parametrize("name", method_names())
def test_nor_is_any_of_a_method(name):
    for key, held in numbers(load_config(name).method, "method."):
        with pytest.raises(ConfigError, match=r"is out of range|expected < 2|expected"):
            load_config(name, {key: 10**19 if isinstance(held, int) else 1e308})


def test_numbers_in_lists_and_by_name_are_looked_at_too():
    for settings in ({"model.hidden": [200, 10**13]}, {"delays.classes": {"laptop": 1e308, "phone_mid": 1.0}}):
        with pytest.raises(ConfigError, match="is out of range"):
            load_config("fedavg", settings)
    load_config("fedavg", {"delays.classes": {"laptop": 1, "phone_mid": 3}})


def test_seeds_may_have_all_the_digits_that_a_file_takes():
    assert load_config("fedavg", {"seed": 2**63 - 1}).seed == 2**63 - 1
    with pytest.raises(ConfigError, match="seed=a number of 31 digits is out of range"):
        load_config("fedavg", {"seed": 10**30})


def test_a_dirichlet_of_any_concentration_deals_all_rows():
    for alpha in (1e-30, 1e30):
        with Federation(load_config("fedavg", small("partition=dirichlet", f"partition.alpha={alpha}"))) as federation:
            rows = federation.world.data.clients
            assert sum(len(one.train) + len(one.test) for one in rows) == len(federation.world.data.dataset.y)


def small(*words):
    return [*small_overrides("fedavg"), "agents.policy=none", "rounds=1", *words]


@pytest.mark.parametrize(
    ("method", "words", "said"),
    [
        (
            "fedavg",
            ["method.epochs=1000000000"],
            r"[\d,]+ steps on \d+ samples, planned at once: that takes .*Lower the",
        ),
        ("fedavg", ["evaluation.personal=tuned", "evaluation.tuned.epochs=1000000000"], "planned at once"),
        ("hsgd", ["method.team_rounds=1000000000"], r"a round of 1,000,000,000 team rounds: that takes 11\.6 days"),
        ("fedavg", ["model=mlp", "model.hidden=[1000000000]"], r"7\.84e\+11 values or more: that takes 12\.5 TB"),
        ("hapfl", ["method.lite=1e9"], r"ModelSpec\(name='(cnn|mlp)'.*of memory, and this machine has"),
        ("fedtp", ["method.hidden=1000000000"], "the global state of FedTP, .* values or more"),
        (
            "fedavg",
            ["data=synthetic", "data.limit=0", "clients.count=1000000000"],
            r"synthetic samples .*that takes 24 TB",
        ),
        ("fedavg", ["delays.mode=sleep", "delays.sleep_scale=1e30"], "a client's sleep: that takes .* days"),
    ],
)
def test_what_there_is_neither_memory_nor_time_for_is_refused_with_the_figure(method, words, said):
    config = load_config(method, [*small_overrides(method), "agents.policy=none", "rounds=1", *words])
    with pytest.raises(StrataError, match=said), Federation(config) as federation:
        federation.run_round()


def test_the_tightest_allocation_of_so_many_epochs_is_refused():
    from strata.cluster.run.session import Session

    words = [*small_overrides("hapfl"), "rounds=1", "agents.policy=optimum", "method.epochs=4000000"]
    with (
        pytest.raises(StrataError, match=r"agents.policy=optimum, for \d+ clients with [\d,]+ epochs between them"),
        Session(load_config("hapfl", words)) as session,
    ):
        session.run_round()


def test_a_call_of_more_steps_than_can_be_planned_is_refused_before_anything_starts():
    with pytest.raises(ResourceError, match=r"^[\d,]+ steps on \d+ samples, planned at once: that takes"):
        Federation(load_config("fedavg", small("method.epochs=1000000000")))


def test_a_whole_number_of_more_digits_than_are_read_is_told_of_them():
    with pytest.raises(ConfigError, match=r"expected a whole number ≥ 0 of at most 18 digits"):
        load_config("fedavg", ["method.epochs=1" + 30 * "0"])
