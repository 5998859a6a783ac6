"""Flat configurations: what is a method's own, what a result depends on, and how variations are called."""

import pytest

from strata.cluster.report.settings import dotted, entering, in_common, label_of, own_part, setting_of
from strata.engine.config.load import load_config, to_dict

NESTED = {
    "algorithm": "fedavg", "rounds": 3, "seed": 1, "output": "runs", "method": {"lr": 0.1, "parts": {}},
    "agents": {"policy": "none"}, "data": {"name": "mnist"}, "clients": {"count": 4, "num_cpus": 1.0},
    "evaluation": {"every": 2, "batch_size": 9}, "ray": {"address": ""},
}  # fmt: skip


def test_keys_are_written_as_on_the_command_line():
    assert dotted({"a": {"b": {"c": 1}, "d": []}, "e": {}, "f": None}) == {"a.b.c": 1, "a.d": [], "e": {}, "f": None}


def test_a_configuration_is_its_methods_part_and_the_setting():
    own, setting = own_part(NESTED), setting_of(NESTED)
    assert own == {"method.lr": 0.1, "method.parts": {}, "agents.policy": "none"}
    assert {**own, **setting, "algorithm": "fedavg"} == dotted(NESTED)
    assert not set(own) & set(setting)


def test_for_whom_servers_wait_may_differ_and_names_a_variation():
    plain, other = config(), config("fedprox", "clients.mode=async", "clients.participation=0.5")
    assert label_of(other, [plain, other]) == "fedprox:clients.mode=async"
    assert "clients.mode" not in setting_of(other)
    assert setting_of(other)["clients.participation"] == 0.5
    assert own_part(other)["teams.deadline_s"] == 0.0


def test_what_becomes_of_messages_may_differ_and_attacks_are_the_setting():
    plain, other = config(), config("fedprox", "transport.up=[quantise]", "robust.mean=median", "attacks.share=0.1")
    assert label_of(other, [plain, other]) == "fedprox:transport.up=['quantise'],robust.mean=median"
    assert setting_of(other)["attacks.share"] == 0.1
    assert not [key for key in setting_of(other) if key.startswith(("transport.", "robust."))]


def test_seeds_folders_and_placement_enter_no_result_but_the_number_of_rounds_does():
    assert entering(NESTED) == {"rounds": 3, "data.name": "mnist", "clients.count": 4, "evaluation.every": 2}


def config(method="fedprox", *said):
    return to_dict(load_config(method, said))


def test_a_method_alone_is_called_by_its_name():
    odd = config("fedprox", "method.mu=0.5")
    assert label_of(odd, [odd, config("fedavg")]) == "fedprox"


def test_variations_are_called_by_what_they_set_and_differ_in():
    plain, strong = config(), config("fedprox", "method.mu=0.5", "method.batch_size=7")
    both = [plain, strong, config("fedavg")]
    assert label_of(plain, both) == "fedprox"
    assert label_of(strong, both) == "fedprox:method.batch_size=7,method.mu=0.5"
    # Where all have the same batch size, only what they differ in is said.
    weak = config("fedprox", "method.mu=0.25", "method.batch_size=7")
    assert label_of(strong, [strong, weak]) == "fedprox:method.mu=0.5"


@pytest.mark.parametrize("rounds", [3, 4])
def test_a_setting_is_no_variation_of_a_method(rounds):
    one, other = config("fedprox", "rounds=3"), config("fedprox", f"rounds={rounds}", "data.limit=9")
    assert label_of(other, [one, other]) == "fedprox"


def test_a_method_that_this_machine_does_not_have_is_called_by_all_that_differs():
    one = {"algorithm": "theirs.method", "method": {"a": 1, "b": 2}}
    other = {"algorithm": "theirs.method", "method": {"a": 1, "b": 3}}
    assert [label_of(each, [one, other]) for each in (one, other)] == [
        "theirs.method:method.b=2",
        "theirs.method:method.b=3",
    ]


@pytest.mark.parametrize(("mode", "free"), [("async", True), ("sync", False)])
def test_the_number_of_rounds_is_free_where_not_all_servers_wait(mode, free):
    first = to_dict(load_config("fedavg", ["rounds=3"]))
    other = to_dict(load_config("fedavg", ["rounds=30", "clients.participation=0.5", f"clients.mode={mode}"]))
    parts = in_common({"first": first, "other": other}, setting_of)
    assert (parts["first"] == parts["other"]) == free
    assert ("rounds" in parts["first"]) == (not free)
