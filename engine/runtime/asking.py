"""Asking actors: how a call travels to one and its answer back, and what is raised when one cannot be reached."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple, NoReturn, cast

import ray
from ray import ObjectRef
from ray.actor import ActorHandle
from ray.exceptions import RayActorError, RayError, RayTaskError

from strata.engine.errors import ActorDiedError, ClusterError, StrataError
from strata.engine.rounds.pools import Failure
from strata.engine.runtime.passing.packing import Outgoing, Reply, greeting_to, is_near, read
from strata.engine.runtime.shells import Shell

Process = ActorHandle[Shell]
Ref = ObjectRef[object]  # of a shell's answer


class Actor(NamedTuple):
    """A shell's process, and since which start of the run's actors it holds what it does."""

    process: Process
    term: int


Pending = tuple[Ref, int, str]
"""A ticket: the reference of a task that answers several calls, which of them it is, and who was asked."""


class Remote:
    """Stands in the driver for what an actor holds: a method called on it is called there, and waited for."""

    def __init__(self, actor: Actor, where: str) -> None:
        """``actor`` is the shell that holds it; ``where`` names it in errors."""
        self._actor, self._where = actor, where
        self._ahead = deque[tuple[str, Ref]]()

    def hand_over(self, verb: str, *arguments: object) -> None:
        """Hand a call over now; whoever calls the method later waits for this one. Nothing else may be asked before.

        Several are answered in their order; one that raises keeps those behind it from being made.
        """
        self._ahead.append((verb, ask(self._actor, verb, arguments, behind=bool(self._ahead))))

    def __getattr__(self, verb: str) -> Callable[..., object]:
        return partial(self._call, verb)

    def _call(self, verb: str, *arguments: object) -> object:
        if not self._ahead:
            return answer(ask(self._actor, verb, arguments), self._where)
        if self._ahead[0][0] != verb:
            raise StrataError(
                f"{self._where}: {verb} was asked for while {self._ahead[0][0]} is under way. Run the next round first."
            )
        try:
            return answer(self._ahead.popleft()[1], self._where)
        except BaseException:
            self._ahead.clear()
            raise


def ask(actor: Actor, verb: str, arguments: object, *shared: Outgoing, behind: bool = False) -> Ref:
    """Hand a call over to a shell; see :meth:`~strata.engine.runtime.shells.Shell.ask`. Gives a reference.

    ``behind``: as :meth:`~strata.engine.runtime.shells.Shell.ask_behind`.
    """
    name = actor.process._actor_id.hex()
    near = is_near(name)
    kind: Any = actor.process.ask_behind if behind else actor.process.ask
    sent = [part.to_actor(near) for part in (Outgoing(arguments), *shared)]
    return cast(Ref, kind.remote(actor.term, greeting_to(name), verb, *sent))


def as_they_come(tickets: Iterable[Pending]) -> Iterator[tuple[Ref, Any, list[int]]]:
    """Wait for tasks, in the order in which they end.

    Yields:
        each task's reference; its answer, or a failure with what :func:`answer` raises; and which of the calls that it
        makes are among the tickets, by number.
    """
    waiting: dict[Ref, tuple[list[int], str]] = {}
    for ref, number, where in tickets:
        waiting.setdefault(ref, ([], where))[0].append(number)
    rest = list(waiting)
    while rest:
        ray.wait(rest, num_returns=1)  # returns as soon as there is one, and then no others that are there
        ready, rest = ray.wait(rest, num_returns=len(rest), timeout=0)
        for ref in ready:
            numbers, where = waiting.pop(ref)
            yield ref, _answer_or_failure(ref, where), numbers


def answered(refs: Sequence[Ref]) -> list[Ref]:
    """Those of some tasks that have ended already, without waiting for any and without fetching what they came to."""
    return ray.wait(list(refs), num_returns=len(refs), timeout=0, fetch_local=False)[0] if refs else []


def _answer_or_failure(ref: Ref, where: str) -> Any:
    try:
        return answer(ref, where)
    except Exception as error:
        return Failure(error)


def shared_once(messages: Iterable[object]) -> dict[int, Outgoing]:
    """Each distinct message ready for the wire, by ``id(message)``, prepared once, however many are sent it."""
    wires: dict[int, Outgoing] = {}
    for message in messages:
        if id(message) not in wires:
            wires[id(message)] = Outgoing(message)
    return wires


def answer(ref: Ref, where: str) -> Any:
    """Wait for what a shell answers; ``where`` says in errors who was asked.

    Raises:
        ActorDiedError: when the actor's process ended.
        ClusterError: when Ray lost the value.
        Exception: what the task raised, as it was raised in the actor.
    """
    try:
        reply = ray.get(ref)
    except RayTaskError as error:
        raise_cause(error)
    except RayActorError as error:
        raise ActorDiedError(f"{where}: the actor's process ended: {reason_of(error)}.") from None
    except RayError as error:
        reason = str(error).strip().splitlines()[0]
        raise ClusterError(
            f"{where}: Ray lost or could not keep what it held ({type(error).__name__}: {reason})."
        ) from None
    try:
        return read(reply) if isinstance(reply, Reply) else reply  # nothing, for a call that was not made
    except ClusterError as error:
        raise ActorDiedError(f"{where}: {error}") from None


def raise_cause(error: RayTaskError) -> NoReturn:
    """Raise the error that an actor's task raised, with its own type and message; Ray's where it holds none."""
    # The error as it was raised in the actor: its message already says who and when.
    if isinstance(error.cause, Exception):
        raise error.cause from None
    raise error


def raised_at_start(error: RayActorError) -> bool:
    """Whether an actor died of what its own start raised."""
    return "in its creation task" in str(error)


def reason_of(error: RayActorError) -> str:
    """Why an actor died, in a few words from Ray's message; a guess where it gives no reason."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if raised_at_start(error):
        return lines[-1]  # what was raised
    for text in lines:
        if text.startswith("The actor is dead because"):
            # What follows are Ray's guesses, which fill a screen.
            return text.removeprefix("The actor is dead because ").partition(" Some common causes")[0].rstrip(".")
    return "it was killed or crashed (out of memory is the usual cause)"


def names_of(clients: Sequence[int]) -> str:
    """Clients as an error names them: ``client 3``, ``clients 3, 5``; at most eight, and an ellipsis for the others."""
    shown = ", ".join(map(str, clients[:8])) + (", …" if len(clients) > 8 else "")
    return f"client{'s' * (len(clients) > 1)} {shown}"
