"""Personal models (PM) of methods that have none: a client's last trained model, or the global model fine-tuned.

Neither needs a line in a method. What clients do when they are called and evaluated is asked of a :class:`Service`: the
plain one leaves it to the method, the others lead the method's generators and see what these are answered.

``last``
    A client keeps the model that its last call which counted for it trained, beside its private state; until then it is
    served with the global model. Models are kept of methods whose clients train the architecture of the global model.
``tuned``
    (FedAvg with fine-tuning.) Each evaluation trains the global model on the client's training rows with the method's
    own learning rate, momentum, weight decay and batch size, and evaluates what comes of it on the test rows. What a
    method adds to gradients (pulls, corrections) is left out, and a learning rate that falls over the rounds is that of
    the first. The batches rest on the seed and the client alone: they are the same in every round and for every method.

Neither is charged: evaluation takes no virtual seconds, and its FLOPs, steps and bytes are in no record. What it takes
is wall time, in the part ``evaluation`` of a profile.
"""

from collections.abc import Generator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from strata.engine.evaluation.config import PersonalName
from strata.engine.method.algorithm import Algorithm
from strata.engine.method.length import Length
from strata.engine.method.local import LocalSgd, LocalTraining
from strata.engine.method.messages import ClientInfo, ClientResult, ClientStep, Context
from strata.engine.method.requests import Evaluate, Evaluation, Request, Train, Trained
from strata.engine.params import Params
from strata.engine.seeding import derive

Method = Algorithm[Any, Any, Any, Any]
Scores = Generator[Request, Any, Mapping[str, Evaluation]]
"""A client's evaluation: asks, is answered, and ends with one evaluation per kind of model."""


@dataclass(frozen=True)
class Personal:
    """Which personal models a method without any is evaluated with; ``epochs`` of fine-tuning for ``tuned``."""

    kind: PersonalName = "none"
    epochs: int = 1

    @property
    def is_kept(self) -> bool:
        """Whether clients keep a model between their calls."""
        return self.kind == "last"


@dataclass(frozen=True)
class Kept:
    """A client's private state, and beside it the model that it last trained; None before its first call."""

    state: object
    model: Params | None = None


class Service:
    """What clients do when they are called and evaluated: what the method says."""

    def __init__(self, method: Method) -> None:
        """``method``: of the run."""
        self._method = method

    def first_state(self, info: ClientInfo, seed: int) -> object:
        """A client's private state before its first call."""
        return self._method.init_client(info, seed)

    def call(self, info: ClientInfo, state: Any, down: object, context: Context) -> ClientStep[Any, Any]:
        """One call of a client."""
        return self._method.client_step(info, state, down, context)

    def evaluation(self, info: ClientInfo, state: Any, shared: Mapping[str, Params]) -> Scores:
        """The evaluation of a client's models on its test rows."""
        return self._method.client_evaluate(info, state, shared)

    def evaluation_seed(self, client: int) -> int:
        """Of which everything is drawn that an evaluation of a client draws."""
        return 0


class LastTrained(Service):
    """Clients keep the model that they last trained, and are evaluated with it as their personal one."""

    def first_state(self, info: ClientInfo, seed: int) -> Kept:
        """The method's state, and no model yet."""
        return Kept(self._method.init_client(info, seed))

    def call(self, info: ClientInfo, state: Kept, down: object, context: Context) -> ClientStep[Kept, Any]:
        """The method's call, after which the model that was trained in it is kept."""
        steps, model, answer = self._method.client_step(info, state.state, down, context), state.model, None
        while True:
            try:
                request = steps.send(answer)
            except StopIteration as stop:
                result: ClientResult[Any, Any] = stop.value
                return replace(result, state=Kept(result.state, model))
            answer = yield request
            if isinstance(request, Train) and request.model == self._method.model:
                trained: Trained = answer
                model = trained.params

    def evaluation(self, info: ClientInfo, state: Kept, shared: Mapping[str, Params]) -> Scores:
        """The method's evaluation, and that of the model which was kept, or else of the global one."""
        scores = yield from self._method.client_evaluate(info, state.state, shared)
        model = state.model if state.model is not None else shared["GM"]
        return {**scores, "PM": (yield Evaluate(self._method.model, model))}


class FineTuned(Service):
    """Clients fine-tune the global model, and are evaluated with what comes of it as their personal one."""

    def __init__(self, method: Method, epochs: int, seed: int) -> None:
        """``epochs``: passes over the client's training rows; ``seed``: of the run."""
        super().__init__(method)
        self._epochs, self._seed = epochs, seed

    def evaluation(self, info: ClientInfo, state: Any, shared: Mapping[str, Params]) -> Scores:
        """The method's evaluation, and that of the fine-tuned model; of the global one where there are no rows."""
        scores = yield from self._method.client_evaluate(info, state, shared)
        model = shared["GM"]
        if info.train_samples:
            trained: Trained = yield self._tuning(model)
            model = trained.params
        return {**scores, "PM": (yield Evaluate(self._method.model, model))}

    def _tuning(self, start: Params) -> Train:
        config, length = self._method.config, Length(self._epochs)
        if isinstance(config, LocalTraining):
            return config.train_in(1, self._method.model, start, length)
        assert isinstance(config, LocalSgd), "checked when the configuration was read"
        return config.train(self._method.model, start, length)

    def evaluation_seed(self, client: int) -> int:
        """The client's own, the same in every round."""
        return derive(self._seed, "tuned", client)


def service_of(method: Method, personal: Personal, seed: int) -> Service:
    """What clients do under a choice of personal models; ``seed``: of the run."""
    if personal.kind == "last":
        return LastTrained(method)
    if personal.kind == "tuned":
        return FineTuned(method, personal.epochs, seed)
    return Service(method)
