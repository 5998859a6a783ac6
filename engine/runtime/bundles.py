"""Where the actors of a run may live: on the cluster's nodes, or in the placement group that this process is in.

A process is in a placement group as a trial of Ray Tune, or as a task that asked for one: then its run takes nothing
but the group's bundles, so that runs side by side neither wait for each other nor take what others were promised. CPUs
within a group are counted here and not asked of Ray: the process itself holds some of them, and only waits while its
actors work.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import ray
from ray.util import get_current_placement_group, placement_group_table
from ray.util.placement_group import PlacementGroup
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy, PlacementGroupSchedulingStrategy

from strata.engine.errors import ResourceError
from strata.engine.runtime.seats import Node, Seat, Share

WITHIN = "/"
"""Between the id of a node and the number of a bundle on it, in the id of what :func:`nodes` gives of a group."""

ADVICE = (
    "The run is in a placement group, e.g. a trial of Ray Tune, and takes nothing but what that has, without the GPUs "
    'that its own process holds: ask for more, e.g. tune.PlacementGroupFactory([{}, {"CPU": 4, "GPU": 1}]), the actors '
    "in the second bundle; or set runtime=inprocess."
)


def group() -> PlacementGroup | None:
    """The placement group that this process is in, with all that it starts; None outside of any."""
    inside: PlacementGroup | None = get_current_placement_group()
    return inside if inside and ray.get_runtime_context().should_capture_child_tasks_in_placement_group else None


def nodes() -> list[Node]:
    """The cluster's living nodes with their total resources, by node id; within a placement group its bundles."""
    inside = group()
    if inside is not None:
        return _bundles(inside)
    alive = [node for node in ray.nodes() if node["Alive"]]
    parts = [(n["NodeID"], n["Resources"].get("CPU", 0.0), n["Resources"].get("GPU", 0.0)) for n in alive]
    return [Node(*part) for part in sorted(parts)]


def _bundles(inside: PlacementGroup) -> list[Node]:
    homes: Mapping[int, str] = placement_group_table(inside)["bundles_to_node_id"]
    own = ray.get_runtime_context().get_assigned_resources().get("GPU", 0.0)
    found = []
    for number, bundle in enumerate(inside.bundle_specs):
        held = min(own, bundle.get("GPU", 0.0))
        own -= held
        place = f"{homes[number]}{WITHIN}{number}"
        found.append(Node(place, bundle.get("CPU", 0.0), bundle.get("GPU", 0.0) - held))
    return found


def node_of(place: str) -> str:
    """The id of the node that a seat is on."""
    return place.partition(WITHIN)[0]


def scheduling(seat: Seat) -> dict[str, Any]:
    """Ray's options for the actor of a seat: where it is to live, and what it is given there."""
    node, within, number = seat.node.partition(WITHIN)
    if not within:
        strategy = NodeAffinitySchedulingStrategy(node, soft=False)
        return {"num_cpus": seat.share.cpus, "num_gpus": seat.share.gpus, "scheduling_strategy": strategy}
    inside = group()
    assert inside is not None, "its bundles were counted"
    bundle = PlacementGroupSchedulingStrategy(inside, placement_group_bundle_index=int(number))
    return {"num_cpus": 0, "num_gpus": seat.share.gpus, "scheduling_strategy": bundle}


def held(seat: Seat) -> Seat:
    """A seat with what its actor asks Ray for, which within a group is no CPU: there, runs side by side share these."""
    return replace(seat, share=Share(0.0, seat.share.gpus)) if WITHIN in seat.node else seat


def advised(error: ResourceError) -> ResourceError:
    """The error of a run that does not fit, with what to do about it within a placement group."""
    return error if group() is None else ResourceError(f"{error} {ADVICE}")
