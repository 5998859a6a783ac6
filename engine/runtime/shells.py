"""One shell for every tier: an actor that holds clients, a team server or the global server, and forwards calls."""

from collections.abc import Callable, Iterable
from operator import attrgetter
from typing import Any

from ray._private.worker import WORKER_MODE, global_worker
from ray.util import serialization_addons

from strata.engine.errors import ClusterError, StrataError
from strata.engine.lazy import importing

with importing():  # torch, in the process of an actor, which imports this first
    from strata.engine.runtime.passing.packing import SEGMENTS, Greeting, Outgoing, Packed, Reply, unpacked

if global_worker.mode == WORKER_MODE:
    # Ray would load pyarrow and pydantic's first version to send their objects, of which an actor sends none: 14 MB.
    serialization_addons.apply = lambda context: None


class Shell:
    """What runs in an actor's process: it holds clients, a team server or the global server, and forwards calls.

    When the actors of a run begin again, a process that is alive makes anew what it holds, which takes a part of the
    time of a new process. The starts are counted: a call that was handed over before is refused when it arrives.
    """

    def __init__(self, term: int, make: Callable[..., object], *arguments: object) -> None:
        """Hold ``make(*arguments)``, made in this process; ``term``: how often the run's actors have begun again.

        An error that it raises on purpose is held instead, and raised by whatever is asked of the shell: raised here it
        would end the process, of which Ray keeps no more than a text.
        """
        self._term = term
        self._held: object = None
        self._refused: StrataError | None = None
        self._broke = False
        self._make(make, arguments)

    def _make(self, make: Callable[..., object], arguments: Iterable[object]) -> None:
        try:
            self._held = make(*arguments)
        except StrataError as error:
            self._refused = error

    def begin_again(self, term: int, make: Callable[..., object], *arguments: object) -> bool:
        """Hold something else from now on, in place of what was held; the arguments are those of a new shell.

        Raises:
            StrataError: what the start was refused for.
        """
        # What is held goes first: it need not be there twice.
        self._term, self._held, self._refused = term, None, None
        SEGMENTS.forget()
        self._make(make, arguments)
        return self.ready()

    def ask(self, term: int, greeting: Greeting, verb: str, arguments: Packed, *shared: Packed) -> Reply:
        """Call a method of what is held.

        Args:
            term: in which the call was handed over.
            greeting: of the process that asks.
            verb: name of the method, dotted where it is one of something that is held: ``clients.evaluate``.
            arguments: a sequence, in which a :class:`~.passing.packing.Slot` stands for one of ``shared``.
            shared: what travels once; Ray fetches a reference before the call.

        Raises:
            StrataError: what the start was refused for.
            ClusterError: for a call of an earlier term.
        """
        self._broke = True
        self.ready()
        if term != self._term:
            raise ClusterError(f"{verb}: the call was handed over before the actors began again.")
        given: Any = unpacked(arguments, [unpacked(part) for part in shared])
        made = Outgoing(attrgetter(verb)(self._held)(*given))
        reply = Reply(made.to_asker(greeting.sees), greeting.returned())
        self._broke = False
        return reply

    def ask_behind(self, term: int, greeting: Greeting, verb: str, arguments: Packed, *shared: Packed) -> Reply | None:
        """As :meth:`ask`, for a call that was handed over before the one ahead of it was made.

        Where that one raised something, this one is not made and gives None: nobody waits for it any more, and Ray
        would print an error.
        """
        return None if self._broke else self.ask(term, greeting, verb, arguments, *shared)

    def ready(self) -> bool:
        """True; an actor can answer this only once it has made what it holds, so whoever starts it waits for this.

        Raises:
            StrataError: what the start was refused for.
        """
        if self._refused is not None:
            raise self._refused
        return True
