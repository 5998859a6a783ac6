"""From a configuration to rounds that an environment can play, at either fidelity."""

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
from strata.engine.method.situation import Decisions, Report
from strata.engine.rounds.cohort import called_size
from strata.engine.rounds.costs import CallCosts
from strata.engine.rounds.records import RoundRecord, report_of_probes, report_of_round
from strata.engine.rounds.timed import TimedRounds
from strata.engine.rounds.world import World
from strata.envs.turns import Turns

Fidelity = Literal["full", "timing"]


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
        accuracy = None if scores is None else scores.accuracy
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
    kind, clients = control_class(config), len(world.data.clients)
    # In a tiered method every member of an invited team is told something.
    k = clients if isinstance(world.algorithm, TieredAlgorithm) else called_size(world.clients_plan, clients)
    return kind(world.algorithm, world.infos, costs or CallCosts(world), k, config.agents.layout)


def full_turns(federation: Federation) -> Turns:
    """Turns whose rounds train the models of a federation."""
    world = federation.world
    return Turns(TrainingRounds(federation), control_of(federation.config, world), len(world.data.clients))


def timing_turns(config: RunConfig, population: int = 0, given: Given = NOTHING) -> Turns:
    """Turns whose rounds are only timed. ``population`` 0 is the run's own clients, others are drawn anew."""
    world = build_world(for_seed(config, config.seed + population), given)
    costs = CallCosts(world)
    return Turns(TimedRounds(world, costs), control_of(config, world, costs), len(world.data.clients))


def replayed(turns: Turns) -> Turns:
    """The same timed rounds from the start, with nothing remembered."""
    assert isinstance(turns.rounds, TimedRounds)
    timed = TimedRounds(turns.rounds.world, turns.rounds.costs)
    return Turns(timed, turns.control, len(timed.world.data.clients))


class Windows:
    """Episodes over rounds that go on: each is a window of rounds; training starts anew only when asked to.

    In the timing fidelity each window goes to the next of several populations of clients, which differ in data and
    speed. Shared by all environments.
    """

    def __init__(
        self,
        method: str = "",
        overrides: Sequence[str] = (),
        fidelity: Fidelity = "timing",
        rounds: int = 50,
        populations: int = 1,
        turns: Turns | Sequence[Turns] = (),
    ) -> None:
        """Describe what :meth:`next` opens; nothing is loaded yet but the configuration.

        Args:
            method: a method's name or a YAML file.
            overrides: as on the command line. Rounds run in this process unless they say ``runtime=ray``.
            fidelity: ``full`` trains models, ``timing`` only computes times.
            rounds: of a window.
            populations: timing: how many populations of clients to go round.
            turns: play these instead of opening any; of several populations, each window goes to the next.

        Raises:
            ConfigError: for anything wrong with the configuration, or a method that leaves no decisions to agents.
        """
        if fidelity not in ("full", "timing"):
            raise ConfigError(f"fidelity={fidelity}: expected full or timing.")
        if rounds < 1 or populations < 1:
            raise ConfigError(f"rounds={rounds}, populations={populations}: expected at least 1 each.")
        if populations > 1 and fidelity == "full":
            raise ConfigError(f"populations={populations}: expected 1 with fidelity=full, which trains one federation.")
        given = [turns] if isinstance(turns, Turns) else list(turns)
        self.rounds, self._fidelity, self._populations = rounds, fidelity, len(given) or populations
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

    def next(self, restart: bool = False) -> Turns:
        """Open the next window; ``restart`` begins with untrained models and an empty memory.

        Raises:
            ConfigError: for a restart of turns that were given.
        """
        if restart and self._config is None:
            raise ConfigError("restart: these rounds were given to the environment; start them anew where they began.")
        if restart:
            self.close()
            self._window = 0
        population = self._window % self._populations
        self._window += 1
        self.left = self.rounds
        return self._turns(population)

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
