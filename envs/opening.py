"""From a configuration to rounds that an environment can play, at either fidelity."""

import math
from collections.abc import Sequence
from typing import Literal

from strata.engine.build import build_world
from strata.engine.config.given import NOTHING, Given
from strata.engine.config.load import load_config
from strata.engine.config.schema import RunConfig, for_seed
from strata.engine.errors import ConfigError
from strata.engine.federation import Federation
from strata.engine.method.algorithm import TieredAlgorithm
from strata.engine.method.control import Control
from strata.engine.method.situation import Decisions, Report, RoundSource
from strata.engine.rounds.costs import CallCosts
from strata.engine.rounds.flying.links import shared_link
from strata.engine.rounds.records import RoundRecord, report_of_probes, report_of_round
from strata.engine.rounds.timed import TimedRounds
from strata.engine.rounds.world import World, called_size
from strata.envs.turns import Turns

Fidelity = Literal["full", "timing"]
Episodes = Literal["continue", "restart"]

DEFAULT = "hapfl"
SMALL = ("model=mlp", "model.hidden=[32]", "data.limit=1000", "clients.count=20", "clients.participation=0.5")
"""The default method, and the setting that makes it small, for whoever names no method."""


class TrainingRounds:
    """The rounds of a federation, which train models wherever it lives."""

    def __init__(self, federation: Federation) -> None:
        """Take a federation that plays on from where it is now."""
        self.federation = federation
        self.record: RoundRecord | None = None

    @property
    def round(self) -> int:
        """Global rounds done so far."""
        return self.federation.round

    def invite(self) -> list[int]:
        """Who is invited to the next round."""
        return self.federation.invite()

    def probe(self, clients: Sequence[int]) -> Report:
        """Let clients train the method's probe."""
        return report_of_probes(self.federation.probe(clients))

    def play(self, decisions: Decisions | None) -> Report:
        """Train the next round under what was decided."""
        record = self.record = self.federation.run_round(decisions)
        scores = record.scores.get("GM") or record.scores.get("PM")
        accuracy = None if scores is None or math.isnan(scores.accuracy) else scores.accuracy
        return report_of_round(record.calls, record.round_s, record.straggling_s, accuracy)


def control_class(config: RunConfig) -> type[Control]:
    """The class of the decisions of a run's method.

    Raises:
        ConfigError: when it leaves none to agents.
    """
    kind = config.method_class.Control
    if kind is None:
        raise ConfigError(f"{config.algorithm} leaves no decisions to agents: it has no Control.")
    return kind


def control_of(config: RunConfig, world: World, costs: CallCosts | None = None) -> Control:
    """The decisions of a run's method.

    Raises:
        ConfigError: when it leaves none to agents.
    """
    kind, clients = control_class(config), len(world.seen)
    # In a tiered method every member of an invited team is told something.
    k = clients if isinstance(world.algorithm, TieredAlgorithm) else called_size(world.clients_plan, clients)
    return kind(world.algorithm, world.infos, costs or CallCosts(world), k, config.agents.layout)


def full_turns(federation: Federation) -> Turns:
    """Turns whose rounds train the models of a federation."""
    return turns_of(TrainingRounds(federation), control_of(federation.config, federation.world), federation.world)


def turns_of(rounds: RoundSource, control: Control, world: World) -> Turns:
    """Turns of a world's rounds, with nothing remembered."""
    return Turns(rounds, control, len(world.data.clients), shared_link(world))


def timing_turns(config: RunConfig, population: int = 0, given: Given = NOTHING) -> Turns:
    """Turns whose rounds are only timed. ``population`` 0 is the run's own clients, others are drawn anew."""
    world = build_world(for_seed(config, config.seed + population), given)
    costs = CallCosts(world)
    return turns_of(TimedRounds(world, costs), control_of(config, world, costs), world)


def replayed(turns: Turns) -> Turns:
    """The same timed rounds from the start, with nothing remembered."""
    assert isinstance(turns.rounds, TimedRounds)
    timed = TimedRounds(turns.rounds.world, turns.rounds.costs)
    return turns_of(timed, turns.control, timed.world)


class Windows:
    """Episodes over rounds that go on: each is a window of rounds; training starts anew only when asked to.

    In the timing fidelity each window goes to the next of several populations of clients, which differ in data and
    speed. With ``episodes="restart"`` each window begins a federation, of the seed that the last seeded reset gave:
    equal seeds give equal episodes, and copies of an environment that are reset with different seeds differ. Shared by
    all environments.
    """

    def __init__(
        self,
        method: str = "",
        overrides: Sequence[str] = (),
        fidelity: Fidelity = "timing",
        rounds: int = 50,
        populations: int = 1,
        turns: Turns | Sequence[Turns] = (),
        episodes: Episodes = "continue",
    ) -> None:
        """Describe what :meth:`next` opens; nothing is loaded yet but the configuration.

        Args:
            method: a method's name or a YAML file; empty: HAPFL with few clients and a small model (:data:`SMALL`).
            overrides: as on the command line. Rounds run in this process unless they say ``runtime=ray``.
            fidelity: ``full`` trains models, ``timing`` only computes times.
            rounds: of a window.
            populations: timing: how many populations of clients to go round.
            turns: play these instead of opening any; of several populations, each window goes to the next.
            episodes: ``continue``: a window goes on where the last one ended, and seeds change nothing; ``restart``:
                each begins anew, with untrained models and an empty memory.

        Raises:
            ConfigError: for anything wrong with the configuration, or a method that leaves no decisions to agents.
        """
        if episodes not in ("continue", "restart"):
            raise ConfigError(f"episodes={episodes}: expected continue or restart.")
        if fidelity not in ("full", "timing"):
            raise ConfigError(f"fidelity={fidelity}: expected full or timing.")
        if rounds < 1 or populations < 1:
            raise ConfigError(f"rounds={rounds}, populations={populations}: expected at least 1 each.")
        if populations > 1 and fidelity == "full":
            raise ConfigError(f"populations={populations}: expected 1 with fidelity=full, which trains one federation.")
        given = [turns] if isinstance(turns, Turns) else list(turns)
        if given and episodes == "restart":
            raise ConfigError(
                "episodes=restart: rounds that are given go on where they are. Expected episodes=continue."
            )
        if not method and not any(override.startswith("algorithm=") for override in overrides):
            method, overrides = DEFAULT, [*SMALL, *overrides]
        self.rounds, self._fidelity, self._populations = rounds, fidelity, len(given) or populations
        self._restarts = episodes == "restart"
        self._config = None if given else load_config(method, ["runtime=inprocess", *overrides])
        if self._config is not None:
            control_class(self._config)
        self._open = dict(enumerate(given))
        self._federation: Federation | None = None
        self._window = 0
        self.left = rounds

    @property
    def control(self) -> Control:
        """The decisions, with their spaces."""
        return self._turns(0).control

    def next(self, restart: bool = False, seed: int | None = None) -> Turns:
        """Open the next window.

        Args:
            restart: begin with untrained models and an empty memory, and with the first population.
            seed: of the federations that begin from now on, where each window begins one (``episodes="restart"``).

        Raises:
            ConfigError: for a restart of turns that were given, or a seed below 0.
        """
        if restart and self._config is None:
            raise ConfigError("restart: these rounds were given to the environment; start them anew where they began.")
        if self._restarts and seed is not None:
            self._reseed(seed)
        elif restart:
            self.close()
            self._window = 0
        population = self._window % self._populations
        # What was opened for its spaces alone has not been played yet.
        if self._restarts and population in self._open and self._window:
            self._renew(population)
        self._window += 1
        self.left = self.rounds
        return self._turns(population)

    def _reseed(self, seed: int) -> None:
        if seed < 0:
            raise ConfigError(f"seed={seed}: expected at least 0.")
        assert self._config is not None
        # The first reset often has the seed for which the environment was opened.
        if self._window or seed != self._config.seed:
            self.close()
        self._config = for_seed(self._config, int(seed))
        self._window = 0

    def _renew(self, population: int) -> None:
        """Forget what a population has played; a timed one keeps its world and its prices."""
        if self._fidelity == "timing":
            self._open[population] = replayed(self._open[population])
        else:
            self.close()

    def _turns(self, population: int) -> Turns:
        if population not in self._open:
            assert self._config is not None
            if self._fidelity == "timing":
                self._open[population] = timing_turns(self._config, population)
            else:
                self._federation = Federation(self._config)
                try:
                    self._open[population] = full_turns(self._federation)
                except BaseException:
                    self.close()
                    raise
        return self._open[population]

    def close(self) -> None:
        """End what was opened here; turns that were given stay as they are."""
        if self._federation is not None:
            self._federation.close()
            self._federation = None
        if self._config is not None:
            self._open.clear()
