"""Saved agents: RLlib's states as safetensors and JSON. Nothing that is loaded can run code.

(RLlib's own checkpoint folders unpickle when they are loaded.)
"""

from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import cast

from strata.agents.families.learners import Specs
from strata.agents.rows import per_client
from strata.engine.config.agents import AgentsConfig
from strata.engine.errors import AgentCheckpointError, CheckpointError
from strata.engine.method.control import AgentId
from strata.engine.state import checkpoint


def save(target: Path, learners: object, specs: Specs, settings: AgentsConfig, layout: str, method: str) -> None:
    """Write modules and optimisers, with what they were made for.

    Args:
        target: a folder, replaced as a whole.
        learners: the ``learners`` part of :meth:`strata.agents.rllib_policies.LearntPolicies.state`.
        specs: of the agents.
        settings: their networks.
        layout: how decisions are divided among them.
        method: whose decisions they make, for people.

    Raises:
        CheckpointError: when it cannot be written.
    """
    header = {"made_for": _made_for(specs, settings, layout), "method": method}
    checkpoint.write(target.resolve(), learners, header)


def load(source: Path, specs: Specs, settings: AgentsConfig, layout: str) -> Mapping[str, object]:
    """Read agents for a run; the ``learners`` part of a state.

    Raises:
        AgentCheckpointError: when there are none, they are damaged, or were made for something else: another layout,
            network, number of clients per round (except for the equivariant network), or version of RLlib.
    """

    def check(header: Mapping[str, object]) -> None:
        require_fit(source, header.get("made_for"), _made_for(specs, settings, layout))

    try:
        return cast(Mapping[str, object], checkpoint.read(source, check))
    except AgentCheckpointError:
        raise
    except CheckpointError as error:
        raise AgentCheckpointError(str(error)) from None


def require_fit(source: Path, theirs: object, ours: Mapping[str, object]) -> None:
    """Check that saved agents were made for what a run needs.

    Args:
        source: their folder.
        theirs: what they were made for, by names that an error can show; what is empty there fits anything.
        ours: the same of the run.

    Raises:
        AgentCheckpointError: when there are none, or they were made for something else.
    """
    if not isinstance(theirs, dict):
        raise AgentCheckpointError(f"{source}: it holds no agents. Make some with `strata train-agents`.")
    for key, own in ours.items():
        if theirs.get(key) != own and theirs.get(key) != "":
            raise AgentCheckpointError(
                f"{source}: these agents were made for another {key}: {_shown(theirs.get(key))} there, "
                f"{_shown(own)} in this run. Train agents for it (`strata train-agents`), or change the run."
            )


def _made_for(specs: Specs, settings: AgentsConfig, layout: str) -> dict[str, object]:
    """What must be equal for agents to be used, by names that an error can show."""
    spaces: dict[AgentId, list[object]] = {}
    clients: dict[AgentId, int] = {}
    for agent, spec in specs.items():
        if spec.is_virtual:
            spaces[agent] = [int(n) for n in spec.action_space.nvec]  # type: ignore[attr-defined]
            if spec.learner == "relative":
                spaces[agent].append({"payments remembered": spec.relative.calls})
            continue
        pattern = per_client(spec.observation_space, spec.action_space)
        spaces[agent] = [pattern.features, list(pattern.choices), pattern.outputs]
        if settings.network == "mlp" and spec.learner == "ppo":
            clients[agent] = pattern.clients
    return {
        "RLlib version": ".".join(version("ray").split(".")[:2]),
        "layout": layout,
        "set of agents": {agent: spec.learner for agent, spec in specs.items()},
        "network": {"kind": settings.network, "hidden": settings.hidden},
        "observation and action space": spaces,
        "number of clients per round": clients,
    }


def _shown(value: object) -> str:
    if isinstance(value, dict):
        parts = [f"{key} {item}" for key, item in value.items()]
        if len(parts) > 8:  # a virtual agent per client
            parts = [*parts[:3], f"… ({len(parts)} in all)"]
        return ", ".join(parts) or "any"
    return str(value)
