"""Where actors may live within a placement group; whole runs in groups are in tests/cluster/sweep."""

from types import SimpleNamespace

import pytest

from strata.engine.errors import ResourceError
from strata.engine.runtime import bundles
from strata.engine.runtime.seats import Node, Seat, Share


def inside(monkeypatch, *specs, held=(), capturing=True):
    """This process as one in a placement group of these bundles, on two nodes in turn; ``held``: its own resources."""
    group = SimpleNamespace(bundle_specs=list(specs))
    context = SimpleNamespace(
        should_capture_child_tasks_in_placement_group=capturing, get_assigned_resources=lambda: dict(held)
    )
    homes = {number: f"node{number % 2}" for number in range(len(specs))}
    monkeypatch.setattr(bundles, "get_current_placement_group", lambda: group)
    monkeypatch.setattr(bundles, "placement_group_table", lambda asked: {"bundles_to_node_id": homes})
    monkeypatch.setattr(bundles.ray, "get_runtime_context", lambda: context)
    return group


def test_a_bundle_is_a_node_without_the_gpus_that_the_process_holds(monkeypatch):
    inside(monkeypatch, {"CPU": 1, "GPU": 1}, {"CPU": 2, "GPU": 1}, {"CPU": 4}, held={"CPU": 1, "GPU": 1})
    assert bundles.nodes() == [Node("node0/0", 1, 0), Node("node1/1", 2, 1), Node("node0/2", 4, 0)]
    assert {bundles.node_of(node.id) for node in bundles.nodes()} == {"node0", "node1"}


def test_an_actor_in_a_bundle_asks_ray_for_gpus_alone(monkeypatch):
    group = inside(monkeypatch, {}, {"CPU": 2, "GPU": 1})
    options = bundles.scheduling(Seat("client", Share(1, 0.5), "node1/1", (0, 1)))
    strategy = options.pop("scheduling_strategy")
    assert options == {"num_cpus": 0, "num_gpus": 0.5}
    assert (strategy.placement_group, strategy.placement_group_bundle_index) == (group, 1)


def test_an_actor_on_a_node_asks_ray_for_all_that_it_is_given():
    node = "0a" * 28
    options = bundles.scheduling(Seat("client", Share(1.5, 0.5), node, (0, 1)))
    strategy = options.pop("scheduling_strategy")
    assert options == {"num_cpus": 1.5, "num_gpus": 0.5}
    assert (strategy.node_id, strategy.soft) == (node, False)


@pytest.mark.parametrize("capturing", [True, False])
def test_a_group_that_does_not_hold_what_its_tasks_start_is_none(monkeypatch, capturing):
    inside(monkeypatch, {"CPU": 1}, capturing=capturing)
    error = ResourceError("too much.")
    assert (bundles.group() is not None) == capturing
    assert ("placement group" in str(bundles.advised(error))) == capturing
