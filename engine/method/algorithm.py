"""The interface of a federated method.

State is split by owner: a global state G on the global server, a team state T on each team server, a private state C on
each client. A step takes state and returns new state; it never changes what it was given. What crosses the network is a
frozen dataclass of tensors and numbers, and nothing else crosses. The engine calls a method with one torch thread: its
results do not depend on the number of cores, and it need not see to that.

A method is one module with a frozen dataclass of :func:`strata.engine.options.option` fields for its configuration, and
``METHOD``, the class. It is found by the module's name: ``strata.algorithms.NAME``, or any dotted path.
"""

from abc import ABC, abstractmethod
from collections.abc import Generator, Mapping, Sequence
from functools import cached_property
from typing import Any, ClassVar, Generic

from strata.engine.data.dataset import Task
from strata.engine.errors import ActionError
from strata.engine.method import control
from strata.engine.method.local import LocalSgd
from strata.engine.method.merging import Weighing
from strata.engine.method.messages import (
    Assignment,
    C,
    ClientInfo,
    ClientStep,
    Context,
    Down,
    G,
    Received,
    ServerStep,
    T,
    TeamDown,
    TeamInfo,
    TeamUp,
    Up,
)
from strata.engine.method.requests import Evaluate, Evaluation, Request
from strata.engine.models.base import Buildable
from strata.engine.params import Params
from strata.engine.tree import between


class Algorithm(ABC, Generic[G, C, Down, Up]):
    """What flat and tiered methods have in common. Write a :class:`FlatAlgorithm` or a :class:`TieredAlgorithm`.

    Attributes:
        Config: the dataclass of its settings.
        Control: the decisions that agents can make for it, None where there are none; see
        :mod:`strata.engine.method.control`.
        has_personal_model: whether clients are scored by personal models (PM), their own or made when they are served.
        shares_a_part: whether :meth:`global_model` gives a part of a model, which clients complete to their personal
            ones in :meth:`client_evaluate`; nobody is scored by it then.
        takes_families: whether clients may differ in their architectures: its ``model`` may be a family of them.
        validates: whether its client steps evaluate on validation rows, for which training rows stand in where
            ``data.validation_fraction`` holds none out.
        has_choices: whether clients report options that were chosen for them; see :meth:`is_choice`.
        stateless: whether clients keep nothing between their calls (their state is always None), so that any actor may
            make any client's call.
        averages: whether its servers know of uploads no more than their mean, weighted by samples: what noise of the
            server's gives privacy to.
        merges: what the step of its clients' server weighs uploads by, where it makes of all that they hold nothing but
            a mean, and looks neither at their senders nor at what these were told. They may then be merged before they
            reach it (:mod:`strata.engine.method.merging`): it is given the mean as one upload, with the samples of all,
            and :meth:`~FlatAlgorithm.assess` is not asked. None: it needs them one by one.
        rounds_differ: whether its servers draw anew for each round what clients do, so that what a call costs is not
            known before it is made. Servers then have to wait for all that they call, or to set a deadline.
        refuses: tasks (``data.task``) that it makes no sense for, each with the reason, which follows "and".
        population: how many clients may be called; known from before :meth:`init_global` on.
    """

    Config: ClassVar[type]
    Control: ClassVar[type[control.Control] | None] = None
    has_personal_model: ClassVar[bool] = False
    shares_a_part: ClassVar[bool] = False
    takes_families: ClassVar[bool] = False
    validates: ClassVar[bool] = False
    has_choices: ClassVar[bool] = False
    stateless: ClassVar[bool] = False
    averages: ClassVar[bool] = False
    merges: ClassVar[Weighing | None] = None
    rounds_differ: ClassVar[bool] = False
    refuses: ClassVar[Mapping[Task, str]] = {}
    population: int = 0

    def __init__(self, config: Any, model: Buildable) -> None:
        """Keep the method's own configuration (an instance of ``Config``) and the architecture that clients share."""
        self.config = config
        self.model = model

    @abstractmethod
    def init_global(self, seed: int) -> G:
        """The global state before the first round."""

    def init_client(self, info: ClientInfo, seed: int) -> C:
        """A client's private state before its first call; None for methods without one."""
        return None  # type: ignore[return-value]

    @classmethod
    def is_choice(cls, metric: str) -> bool:
        """Whether a number that clients report is an option chosen for their architecture, e.g. ``stage2.depth``.

        Runs of methods that have such numbers, by ``has_choices``, end with what was chosen for each client.
        """
        return False

    def default_assignment(self, info: ClientInfo) -> Assignment:
        """What a client does when no agent decides: ``epochs`` and ``steps``, of a method that has these settings."""
        return dict(self._trains)

    @cached_property
    def _trains(self) -> Assignment:
        """What :meth:`default_assignment` tells all clients alike, one by one: thousands a second."""
        return self.config.length.told() if isinstance(self.config, LocalSgd) else {}

    def steer(self, g: G, assignment: Assignment) -> G:
        """The global state under what an agent decided for the server itself this round.

        Raises:
            ActionError: of a method that has nothing to decide there.
        """
        raise ActionError(
            f"{type(self).__name__} takes no decisions for its server: expected none, got {', '.join(assignment)}. "
            "Leave Decisions.server empty."
        )

    def probe(self, g: G) -> Down | None:
        """What a client receives to have its speed assessed; None for methods without a probe."""
        return None

    def probe_step(self, info: ClientInfo, down: Down, context: Context) -> ClientStep[None, None]:
        """The client's side of :meth:`probe`. Only its virtual time counts, nothing is uploaded or kept."""
        raise NotImplementedError(f"{type(self).__name__} has no probe")

    @abstractmethod
    def client_step(self, info: ClientInfo, state: C, down: Down, context: Context) -> ClientStep[C, Up]:
        """One client call, as a generator of requests."""

    def personal_model(self, state: C) -> Params | None:
        """The client's personal model (PM), None where the method has none or the client has not trained yet."""
        return None

    @abstractmethod
    def global_model(self, g: G) -> Params | None:
        """The global model (GM); None where nothing is shared that clients are evaluated with."""

    def client_evaluate(
        self, info: ClientInfo, state: C, shared: Mapping[str, Params]
    ) -> Generator[Request, Any, Mapping[str, Evaluation]]:
        """Evaluate PM and the ``shared`` models (TM, GM) on the client's test data.

        A client without a personal model of its own yet is served by its team's model, or else by the global one.
        Methods whose models differ by client override this. One that fine-tunes before it evaluates may ask for
        training as well; nothing of it is kept, and evaluation costs no virtual time whatever it does.
        """
        models = dict(shared)
        if self.has_personal_model:
            own = self.personal_model(state) if state is not None else None
            served = own if own is not None else shared.get("TM", shared.get("GM"))
            if served is not None:
                models["PM"] = served
        scores = {}
        for name, params in models.items():
            scores[name] = yield Evaluate(self.model, params)
        return scores


class FlatAlgorithm(Algorithm[G, C, Down, Up]):
    """A method without a team tier: clients talk to the global server."""

    @abstractmethod
    def to_client(self, g: G, info: ClientInfo, assignment: Assignment) -> Down:
        """What a client receives. Return the same object for all clients where it is the same: it is sent once."""

    @abstractmethod
    def global_step(self, g: G, ups: Sequence[Received[Up]], context: Context) -> G | ServerStep[G]:
        """Aggregate the cohort's uploads, ordered by client id. What is drawn, is drawn from ``context.seed``.

        It may be a generator of requests, as client steps are, which are answered on the server's own rows.

        Raises:
            EmptyCohortError: when there are none.
        """

    def between(self, before: G, after: G, share: float) -> G:
        """A state between two, where servers do not wait for all; ``after`` came of :meth:`global_step`.

        Float tensors are mixed, ``before + share · (after − before)``; all else is as it is afterwards. A method whose
        state holds what fits no other than the one that it came with overrides this.
        """
        return between(before, after, share)

    def assess(self, before: G, ups: Sequence[Received[Up]], after: G) -> Mapping[int, Mapping[str, float]]:
        """Numbers about uploads that only the server can tell, by sender; they join what the clients reported.

        Args:
            before: the state that ``global_step`` was given.
            ups: the uploads it was given.
            after: what it returned.
        """
        return {}


class TieredAlgorithm(Algorithm[G, C, Down, Up], Generic[G, T, C, TeamDown, Down, Up, TeamUp]):
    """A method with team servers between the clients and the global server.

    Attributes:
        regroups: whether it may form teams anew between rounds; see :meth:`regroup`.
        tells_teams: whether what is decided for teams has an effect: its :meth:`to_team` follows its assignment.
    """

    regroups: ClassVar[bool] = False
    tells_teams: ClassVar[bool] = False

    @property
    @abstractmethod
    def team_rounds(self) -> int:
        """Rounds a team makes with its clients per global round (K)."""

    @abstractmethod
    def to_team(self, g: G, info: TeamInfo, assignment: Assignment, context: Context) -> TeamDown:
        """What the global server sends to a team; ``assignment``: what was decided for it, empty by default.

        Return the same object for all teams where it is the same: it is sent once.
        """

    def regroup(self, g: G, topology: Mapping[int, Sequence[int]], context: Context) -> Mapping[int, Sequence[int]]:
        """Who is in which team from the next round on: members (client ids) by team id, each client once.

        Asked after every global round of a method that says so by ``regroups``. Where the global server does not wait
        for all teams, ``topology`` has those that are not on their way, two at least, and their members alone.
        """
        return topology

    @abstractmethod
    def start_team(self, down: TeamDown, previous: T | None) -> T:
        """A team meets the new global model; ``previous`` is its state of the last global round it took part in."""

    @abstractmethod
    def to_client(self, team: T, info: ClientInfo, assignment: Assignment) -> Down:
        """What a client receives in a team round. Return the same object for all clients where it is the same."""

    @abstractmethod
    def team_step(self, team: T, ups: Sequence[Received[Up]], context: Context) -> T | ServerStep[T]:
        """Aggregate one team round's uploads, ordered by client id; it may ask as :meth:`global_step` may.

        Raises:
            EmptyCohortError: when there are none.
        """

    @abstractmethod
    def to_global(self, team: T) -> TeamUp:
        """What a team sends up after its rounds."""

    @abstractmethod
    def global_step(self, g: G, ups: Sequence[Received[TeamUp]], context: Context) -> G | ServerStep[G]:
        """Aggregate the teams' uploads, ordered by team id; it may be a generator of requests.

        Raises:
            EmptyCohortError: when there are none.
        """

    @abstractmethod
    def team_model(self, team: T) -> Params:
        """The team's model (TM)."""
