"""What a run protects of its clients, and from which of them, checked once its world is known and before it starts."""

from dataclasses import replace

from torch import Tensor

from strata.engine.config.schema import RunConfig
from strata.engine.errors import ConfigError
from strata.engine.method.algorithm import TieredAlgorithm
from strata.engine.method.calls import NO_TEAM
from strata.engine.method.messages import Received
from strata.engine.method.mirrors import changes_of
from strata.engine.rounds.costs import CallCosts
from strata.engine.rounds.world import World
from strata.engine.transport.privacy import Privacy, require_accountant
from strata.engine.transport.taking import require_alike
from strata.engine.tree import leaves


def protected(config: RunConfig, world: World) -> World:
    """The world of a run, with what ε is said of it where it has noise.

    Raises:
        ConfigError: for a robust mean that cannot be formed, or noise without the accountant.
    """
    if config.robust.mean != "none":
        _require_robust(config, world)
    return replace(world, privacy=_privacy(config, world)) if "noise" in config.transport.up else world


def _require_robust(config: RunConfig, world: World) -> None:
    """Refuse robust means of too few uploads, or of uploads without a model; tried with one client."""
    mean, share, uploads = config.robust.mean, config.robust.share, _uploads(world)
    hostile = world.taking.hostile(uploads)
    if mean == "trimmed" and not hostile:
        raise ConfigError(
            f"robust.share={share:g}: of {uploads} uploads that are taken in together, trimmed would cut none. Raise "
            "it, or clients.participation."
        )
    if mean in ("krum", "multi_krum") and uploads < 2 * hostile + 3:
        raise ConfigError(
            f"robust.share={share:g}: of {uploads} uploads that are taken in together, {hostile} may be hostile, and "
            f"{mean} needs {2 * hostile + 3} or more then. Lower it, or raise clients.participation."
        )
    up, down = CallCosts(world).first_exchange()
    require_alike(mean, [Received(0, 1, up)], [changes_of(up, down, mirrored_only=True)])


def _uploads(world: World) -> int:
    """How many uploads a server takes in together, at least, if nobody is lost."""
    if world.clients_plan.mode == "async":
        return world.clients_plan.buffer
    return min(world.cohort(team) for team in world.data.teams or [NO_TEAM])


def _privacy(config: RunConfig, world: World) -> Privacy:
    require_accountant()
    noise, method, clients = config.transport.noise, world.algorithm, len(world.seen)
    return Privacy(
        multiplier=noise.multiplier,
        delta=noise.delta or 1 / clients,
        clients=clients,
        cohort=0 if isinstance(method, TieredAlgorithm) else world.cohort(NO_TEAM),
        at_server=noise.at == "server",
        exchanges=method.team_rounds if isinstance(method, TieredAlgorithm) else 1,
        none=_bare(world) or (_unreckoned(config, world) if noise.at == "server" else ""),
    )


def _bare(world: World) -> str:
    """Why an upload is not covered by noise: something in it is none of the numbers that are clipped."""
    up, _ = CallCosts(world).first_exchange()
    for path, leaf in leaves(up):
        if leaf is not None and not (isinstance(leaf, Tensor) and leaf.is_floating_point()):
            return f"an upload's {path.lstrip('.')} is no float tensor, and travels without noise"
    return ""


def _unreckoned(config: RunConfig, world: World) -> str:
    """Why the noise of a server does not make its models a Gaussian mechanism over clients that are drawn evenly."""
    name = config.algorithm
    reasons = {
        f"{name} has teams, and only the noise of one server is reckoned": isinstance(world.algorithm, TieredAlgorithm),
        f"{name} uses uploads otherwise than in a mean": not world.algorithm.averages,
        f"clients.mode={config.clients.mode}: what counts depends on how long clients take": config.clients.mode
        != "sync",
        "clients are not always there, so they are not drawn evenly": world.presence is not None
        or world.availability is not None,
        f"agents.policy={config.agents.policy}: agents decide who takes part": config.agents.policy != "none",
        f"robust.mean={config.robust.mean} forms no sum": config.robust.mean != "none",
        "quantise can make a change longer than clip left it": "quantise" in config.transport.up,
    }
    return next((reason for reason, holds in reasons.items() if holds), "")
