"""A run's rounds with whoever makes its decisions: the federation alone, or driven by agents through an environment."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

from strata.engine.config.given import NOTHING, Given
from strata.engine.config.schema import RunConfig
from strata.engine.errors import CheckpointError
from strata.engine.federation import Federation
from strata.engine.notify import Notify, Step
from strata.engine.rounds.records import RoundRecord
from strata.engine.stopwatch import AGENTS, Seconds
from strata.engine.tree import fingerprint

if TYPE_CHECKING:
    from strata.agents.driver import Driver
    from strata.agents.policies import Policies
    from strata.envs.turns import Turns


class Session:
    """One run of one seed. Iterate :meth:`run_round` until ``round`` reaches the configuration's."""

    def __init__(
        self, config: RunConfig, notify: Notify = lambda text: None, fresh: bool = True, given: Given = NOTHING
    ) -> None:
        """Start the federation, and build the policies if agents decide.

        Args:
            config: of one seed.
            notify: called with lines about what is being done, for people.
            fresh: begin from saved or pre-trained agents where the configuration says so; a run that is about to be
                restored does not need them.
            given: objects of Python that the run is made of.

        Raises:
            StrataError: when data, resources, or saved agents do not allow the run; nothing is left behind.
        """
        self.config = config
        self.federation = Federation(config, notify, given)
        self._turns: Turns | None = None
        self._driver: Driver | None = None
        self._policies: Policies | None = None
        self._first: Any = None  # the agents before the first round, where they may have to go back to it
        self.started: Seconds = self.federation.started
        if config.agents.policy != "none":
            began = perf_counter()
            notify(Step(f"making agents, {config.agents.policy}"))
            try:
                self._attach(notify, fresh, given)
            except BaseException:
                self.federation.close()
                raise
            self.started = {**self.started, "making agents": perf_counter() - began}

    def _attach(self, notify: Notify, fresh: bool, given: Given) -> None:
        # What agents need is imported only where they decide, and RLlib (seconds, and not always installed) only where
        # they learn.
        from strata.agents.driver import Driver
        from strata.cluster.run.learning import make_policies
        from strata.envs.opening import full_turns
        from strata.envs.stages import StagedRounds

        turns = self._turns = full_turns(self.federation)
        self._policies = make_policies(self.config, turns.control, notify, fresh, given)
        if self.config.on_failure == "retry" and self.config.runtime == "ray":
            self._first = deepcopy(self._agents_now())
        # Windows of one round: the next one is opened, and its clients probed, only when it is run.
        self._driver = Driver(StagedRounds({"turns": turns, "rounds": 1}), self._policies)

    @property
    def round(self) -> int:
        """How many rounds of the run are done."""
        return self.federation.round

    def run_round(self, ahead: bool = False) -> RoundRecord:
        """Run the next round, with the decisions of the agents if there are any; returns its record.

        ``ahead``: see :meth:`~strata.engine.federation.Federation.run_round`; agents decide after each round.
        """
        if self._driver is None:
            return self.federation.run_round(ahead=ahead)
        began = perf_counter()
        result = self._driver.run_round()
        record: RoundRecord = self._turns.rounds.record  # type: ignore[union-attr]
        seconds = {**record.seconds, AGENTS: perf_counter() - began - sum(record.seconds.values())}
        metrics = {**record.metrics, **result.metrics}
        return replace(record, metrics=metrics, agents_wall_s=result.agents_s, seconds=seconds)

    def save(self, folder: Path) -> Path:
        """Write a checkpoint of federation and agents; returns its path."""
        return self.federation.save(folder, self._agents_now())

    def _agents_now(self) -> object:
        """What the agents have learnt and remember, as it is between two rounds; None without agents."""
        if self._turns is None or self._policies is None:
            return None
        return {"memory": self._turns.state(), "policies": self._policies.state()}

    def restore(self, path: Path) -> None:
        """Continue from a checkpoint, agents included.

        Raises:
            CheckpointError: when it is damaged, of another run or without the agents of this one; the session is as it
                was.
        """
        if self._turns is None or self._policies is None or self._driver is None:
            self.federation.restore(path)
            return

        def require_agents(beside: object) -> None:
            if not isinstance(beside, dict):
                raise CheckpointError(f"{path}: it holds no agents.")

        self._take_agents(self.federation.restore(path, require_agents))

    def restart(self) -> None:
        """Start all tiers anew on what is alive, and go back to before the first round, agents included.

        Raises:
            StrataError: when the actors cannot be started.
        """
        self.federation.restart()
        if self._turns is not None:
            self._take_agents(deepcopy(self._first))

    def _take_agents(self, beside: Any) -> None:
        assert self._turns is not None and self._policies is not None and self._driver is not None  # noqa: PT018
        self._turns.restore(beside["memory"])
        self._policies.restore(beside["policies"])
        self._driver.forget()

    def save_agents(self, folder: Path) -> None:
        """Save learnt agents, so that other runs can start from them; without such there is nothing to save.

        Raises:
            CheckpointError: when they cannot be written.
        """
        if self._turns is not None and self.config.agents.policy == "rllib":
            from strata.cluster.run.learning import save_policies

            save_policies(self._policies, self._turns.control, self.config, folder)

    def fingerprint(self) -> dict[str, str]:
        """SHA-256 of models, clock and metrics, and of the agents where there are any."""
        prints = self.federation.fingerprint()
        if self._policies is not None:
            prints["agents"] = fingerprint(self._policies.state())
        return prints

    def close(self) -> None:
        """End the federation, and with it all that it started."""
        self.federation.close()

    def __enter__(self) -> Session:
        """The session itself, which is closed in the end."""
        return self

    def __exit__(self, *exception: object) -> None:
        """Close the session."""
        self.close()
