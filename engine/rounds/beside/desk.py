"""What a server computes itself: its method's step asks for it, and it is done on rows that the server holds.

It is counted in FLOPs, and takes the virtual seconds that the server's device class (``delays.server_device``,
``delays.team_device``) needs for them; none where it has no such class. Servers compute on the CPU.
"""

from collections.abc import Generator, Mapping
from functools import cached_property

from strata.engine.clock.devices import Profile
from strata.engine.errors import ConfigError
from strata.engine.method.algorithm import Algorithm
from strata.engine.method.requests import Evaluate, Evaluation
from strata.engine.params import Params
from strata.engine.rounds.world import World
from strata.engine.training.conversation import Conversation, drive
from strata.engine.training.sequential import Sequential

FLOPS, SECONDS = "server/flops", "server/compute_s"
"""Names of what servers computed in a round, and of how long that took, added up over all servers."""


class Desk:
    """Where one server computes; what it has computed since it was last asked is counted."""

    def __init__(self, world: World, profile: Profile) -> None:
        """``profile``: of the server."""
        self._world, self._profile = world, profile
        self._flops = 0

    @cached_property
    def _trainer(self) -> Sequential:
        return Sequential(self._world.data.dataset, "cpu", self._world.evaluation_batch)

    def made(self, step: object, seed: int, where: str) -> object:
        """What a server's step ends with: a generator of requests is led to its end, all else is the state itself.

        Args:
            step: what the method gave.
            seed: of the step; each request's is derived from it.
            where: the server and the round, for errors.

        Raises:
            ConfigError: when something is asked for and the server holds no rows.
            StrataError: what broke a request.
        """
        if not isinstance(step, Generator):
            return step
        rows = self._world.data.server
        if not len(rows.train):
            raise ConfigError(
                f"{where}: {type(self._world.algorithm).__name__} computes on its servers, and these hold no samples. "
                "Set data.server_fraction, e.g. 0.05."
            )
        state, work = drive(self._trainer, Conversation(step, rows, seed, where))
        self._flops += work.flops
        return state

    def take(self) -> tuple[float, Mapping[str, float]]:
        """The virtual seconds of what was computed since the last time, and numbers of it; none where it was nothing.

        A server's speed has no jitter.
        """
        flops, self._flops = self._flops, 0
        seconds = flops / self._profile.flops_per_s
        return seconds, {FLOPS: float(flops), SECONDS: seconds} if flops else {}

    def evaluated(self, model: Params) -> Evaluation:
        """The evaluation of the global model on the server's test rows, which there have to be; it is not counted."""
        world = self._world
        request = Evaluate(world.algorithm.model, model, pairs=world.counts_pairs, further=world.metrics)

        def step() -> Generator[Evaluate, Evaluation, Evaluation]:
            answer = yield request
            return answer

        evaluation, _ = drive(self._trainer, Conversation(step(), world.data.server, 0, "the server, evaluation"))  # type: ignore[arg-type]
        return evaluation


def serves_one_model(method: Algorithm[object, object, object, object]) -> bool:
    """Whether a method's global model is of its ``model``, and clients are evaluated with it as it is."""
    return type(method).client_evaluate is Algorithm.client_evaluate
