"""Going on after a process, an actor's node or an object of a run was lost.

A run is deterministic: whatever died, all tiers are started anew on what is alive, taken back to the last checkpoint,
and the rounds since then are made again, to the same bits.
"""

import os
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from strata.cluster.run.session import Session
from strata.engine.config.schema import RunConfig
from strata.engine.errors import (
    ActorDiedError,
    ActorStartError,
    CheckpointError,
    ClusterError,
    ResourceError,
    StrataError,
)
from strata.engine.notify import Notify
from strata.engine.runtime.head import HeadWatch
from strata.engine.runtime.inprocess import Runtime
from strata.engine.state import checkpoint

INTERRUPTED = 130  # what a shell reports for Ctrl-C

LOST = (ActorDiedError, ClusterError)
"""What can happen to any run, and need not happen again."""

PAUSE_S = 1.0
"""Wall seconds before actors are started once more."""


@dataclass(frozen=True)
class Survived:
    """A failure that a run went on after: the round under way, what was lost, and the round that it went back to."""

    round: int
    reason: str
    back_to: int
    seconds: float


class Recovery:
    """Takes a session back to its last checkpoint when something of it was lost, as often as the run allows."""

    def __init__(self, config: RunConfig, folder: Path, notify: Notify) -> None:
        """``folder``: where the run's checkpoints lie, in the run's own."""
        self._retries = config.faults.retries if config.on_failure == "retry" else 0
        self._patience_s = config.ray.start_timeout_s
        self._folder, self._notify = folder, notify
        self._watch: HeadWatch | None = None
        self._owns_head = not config.ray.address
        self.interrupted: Callable[[], bool] = lambda: False
        self._failed = 0, 0  # the furthest round under way in which something was lost, and how often
        self.survived: list[Survived] = []

    def started(self, start: Callable[[], Session]) -> Session:
        """A session, started again where a process dies meanwhile; not where a cluster refuses the run.

        Raises:
            StrataError: what the start was refused for; what was lost, once it has happened too often.
        """
        while True:
            try:
                session = start()
                self._watch_head(session)
                return session
            except ActorDiedError as error:
                self._count(error, 1)
                self._notify(f"{error} Starting again.")

    def recover(self, session: Session, error: StrataError) -> None:
        """Start all tiers anew and go back to the last checkpoint, or to before the first round.

        Where the run is interrupted meanwhile, the session may be left as it is, without actors.

        Raises:
            StrataError: the failure, where the run ends with one, and once it has happened too often in one round;
                what the new start was refused for.
        """
        began, round = time.perf_counter(), session.round + 1
        self._count(error, round)
        self._notify(f"lost: {error}")
        self._go_back_in_time(session)
        self.survived.append(Survived(round, str(error), session.round, time.perf_counter() - began))
        self._notify(f"going on from round {session.round}: all actors began again")

    def _go_back_in_time(self, session: Session) -> None:
        """Go back, again and again for a while: Ray needs some seconds to know that a node is gone.

        The while begins when it has failed for the first time, for a start may itself take as long as it may last.
        """
        end: float | None = None
        while True:
            try:
                self._go_back(session)
                return
            except (*LOST, ResourceError) as error:
                if self.interrupted():
                    return
                end = time.monotonic() + self._patience_s if end is None else end
                if isinstance(error, ActorStartError) or time.monotonic() > end:
                    raise self._final(error) from None
                self._notify(f"not yet: {error}")
                time.sleep(PAUSE_S)

    def _count(self, error: StrataError, round: int) -> None:
        furthest, times = self._failed
        times = times + 1 if round <= furthest else 1
        self._failed = max(round, furthest), times
        if isinstance(error, ActorStartError) or times > self._retries:
            raise self._final(error, f" It was tried {times} times (faults.retries={self._retries})." * (times > 1))
        time.sleep(PAUSE_S)

    def _final(self, error: StrataError, tried: str = "") -> StrataError:
        """The error that ends the run, with how to go on."""
        error.args = (f"{error}{tried} Continue with: strata run resume={self._folder.parent}",)
        return error

    def close(self) -> None:
        """Watch over nothing any more."""
        if self._watch is not None:
            self._watch.stop()

    def _watch_head(self, session: Session) -> None:
        runtime = session.federation.runtime
        self.close()
        self._watch = HeadWatch(runtime.head, partial(self._end, runtime)) if runtime.head else None

    def _end(self, runtime: Runtime) -> None:
        """End this process, whose calls of Ray would hang until Ray ends it without a word of what to do."""
        with suppress(OSError):
            sys.stderr.write(
                f"\nerror: the head of the Ray cluster at {runtime.head} is gone, and nothing can go on without it. "
                f"Continue with: strata run resume={self._folder.parent}\n"
            )
            sys.stderr.flush()
        runtime.abandon()
        os._exit(INTERRUPTED if self.interrupted() else 1)  # what stops a job may have ended all of its processes

    def _go_back(self, session: Session) -> None:
        self._restart(session)
        saved = checkpoint.found(self._folder)
        for path in reversed(saved):
            try:
                session.restore(path)
                return
            except CheckpointError as error:  # an older one gives the same bits, some rounds later
                self._notify(f"warning: {error} Going back further.")
        if saved:  # one of them may have been taken up in part
            self._restart(session)

    def _restart(self, session: Session) -> None:
        if self._owns_head:  # else the watch goes on, until there is another
            self.close()
        session.restart()
        self._watch_head(session)
