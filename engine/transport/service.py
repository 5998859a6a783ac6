"""What becomes of a client's upload between the method that makes it and the server: attacks, then stages.

Both stand around what clients do when they are called (:class:`~strata.engine.evaluation.personal.Service`), so no
method has a line of them. Attackers lie about what they changed; the stages are then as everybody's, clipping included.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any

from strata.engine.evaluation.personal import Scores, Service
from strata.engine.method.messages import ClientInfo, ClientResult, ClientStep, Context
from strata.engine.method.mirrors import changes_of, with_changes
from strata.engine.params import Params
from strata.engine.seeding import derive
from strata.engine.transport.wire import Line
from strata.engine.tree import alike


@dataclass(frozen=True)
class Owing:
    """A client's private state, and beside it what it did not send of its changes so far, by path."""

    state: Any
    owed: Params


class Around(Service):
    """A service around another; what it does not change is the other's."""

    def __init__(self, inner: Service) -> None:
        """``inner``: what it stands around."""
        self._inner = inner

    def first_state(self, info: ClientInfo, seed: int) -> object:
        """A client's private state before its first call."""
        return self._inner.first_state(info, seed)

    def call(self, info: ClientInfo, state: Any, down: object, context: Context) -> ClientStep[Any, Any]:
        """One call of a client."""
        return self._inner.call(info, state, down, context)

    def evaluation(self, info: ClientInfo, state: Any, shared: Mapping[str, Params]) -> Scores:
        """The evaluation of a client's models on its test rows."""
        return self._inner.evaluation(info, state, shared)

    def evaluation_seed(self, client: int) -> int:
        """Of which everything is drawn that an evaluation of a client draws."""
        return self._inner.evaluation_seed(client)


class Attacking(Around):
    """Some clients upload a multiple of what they changed."""

    def __init__(self, inner: Service, clients: Collection[int], factor: float) -> None:
        """``clients``: who attacks; ``factor``: by what a change is multiplied, below 0 to turn it around."""
        super().__init__(inner)
        self._clients, self._factor = frozenset(clients), factor

    def call(self, info: ClientInfo, state: Any, down: object, context: Context) -> ClientStep[Any, Any]:
        """The call, of an attacker with another upload."""
        result: ClientResult[Any, Any] = yield from self._inner.call(info, state, down, context)
        if info.id not in self._clients:
            return result
        changes = {path: change * self._factor for path, change in changes_of(result.up, down).items()}
        return replace(result, up=with_changes(result.up, down, changes))


class Transported(Around):
    """Uploads arrive as the stages leave them."""

    def __init__(self, inner: Service, line: Line) -> None:
        """``line``: the stages of what clients send."""
        super().__init__(inner)
        self._line = line

    def call(self, info: ClientInfo, state: Any, down: object, context: Context) -> ClientStep[Any, Any]:
        """The call, with the upload as it is received.

        What is not finite goes as it is, for the server to refuse: no stage can code it.
        """
        result: ClientResult[Any, Any] = yield from self._inner.call(info, state, down, context)
        changes = changes_of(result.up, down)
        if all(change.isfinite().all() for change in changes.values()):
            received = self._line.received(changes, derive(context.seed, "transport"))
            result = replace(result, up=with_changes(result.up, down, received))
        return result


class WithFeedback(Transported):
    """The same where clients add what they did not send to their next change (error feedback).

    Seide et al., "1-Bit Stochastic Gradient Descent", Interspeech 2014; Stich et al., arXiv 1809.07599. What is owed to
    a tensor that comes in another shape than before is forgotten.
    """

    def first_state(self, info: ClientInfo, seed: int) -> Owing:
        """The state, with nothing owed."""
        return Owing(self._inner.first_state(info, seed), {})

    def call(self, info: ClientInfo, state: Owing, down: object, context: Context) -> ClientStep[Owing, Any]:
        """The call, with the upload as it is received, and what is then owed."""
        result: ClientResult[Any, Any] = yield from self._inner.call(info, state.state, down, context)
        changes = changes_of(result.up, down)
        due = {path: c + state.owed[path] if alike(c, state.owed.get(path)) else c for path, c in changes.items()}
        if not all(change.isfinite().all() for change in due.values()):
            return replace(result, state=Owing(result.state, state.owed))
        received = self._line.received(due, derive(context.seed, "transport"))
        owed = {path: due[path] - received[path] for path in due}
        return replace(result, up=with_changes(result.up, down, received), state=Owing(result.state, owed))

    def evaluation(self, info: ClientInfo, state: Owing, shared: Mapping[str, Params]) -> Scores:
        """The evaluation of a client's models, which what is owed has no part in."""
        return self._inner.evaluation(info, state.state, shared)


def carried(service: Service, line: Line, attackers: Collection[int], factor: float) -> Service:
    """A service with attackers and stages around it, as far as there are any.

    Args:
        service: what clients do.
        line: the stages of what they send.
        attackers: who uploads a multiple of its change; ``factor``: which.
        factor: see ``attackers``.
    """
    if attackers and factor != 1:
        service = Attacking(service, attackers, factor)
    if line.keeps:
        return WithFeedback(service, line)
    return service if line.is_plain else Transported(service, line)
