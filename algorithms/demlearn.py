"""DemLearn: clients form groups of groups by their models; each level's mean is mixed with that of the level above.

Nguyen, Pandey, Dang, Huh, Tran, Saad and Hong, "Self-organizing Democratized Learning: Towards Large-scale Distributed
Learning Systems" (arXiv 2007.03278), in the variant with a proximal term. Where the paper leaves something open, it is
done as in its authors' code.

Symbols
    w_i     model of client i (PM)
    K       levels of groups between the clients and the root
    m_g     mean model of the clients in group g; that of the root is the global model (GM)
    v_g     what group g hands down
    β       share of the level above in a mix ("mixing"), 0..1
    μ       strength of the pull of w_i towards v of its parent
    E, B    local epochs, batch size

Per round, over the clients of the cohort: w_i ← E epochs of SGD on f_i + μ/2 ‖w_i − v_g‖², g the parent of i.  Then
their w_i are clustered by average linkage of Euclidean distances, and the tree of clusters is cut: the root is split
in two, and so is every group, K times in all; a group of the last level is the parent of all clients in it, and a
client that is split off earlier has the group above as its parent.  From the clients up m_g ← mean_{i∈g} w_i, and from
the root down v_root = m_root,  v_g ← (1 − β) m_g + β v_{parent of g},  w_i ← (1 − β) w_i + β v_{parent of i}.

Choices of ours: a client does the last of these steps itself, at the start of its next call, so that it is sent one
model and is scored by w_i as it was trained. Groups are formed anew every round of the clients of the cohort; a client
that took no part in the last round has the root as its parent. In its first call a client begins at the root's model,
without a pull. Deviations: models are not amplified by 1.15 in the first rounds, as the authors' code does. β = 1 and
μ = 0 is FedAvg for clients of equal size, β = μ = 0 leaves every client alone.

# n clients of the cohort, D parameters
"""

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from strata.engine.errors import ConfigError
from strata.engine.method.algorithm import FlatAlgorithm
from strata.engine.method.length import Length
from strata.engine.method.local import LocalSgd
from strata.engine.method.messages import (
    Assignment,
    ClientInfo,
    ClientResult,
    ClientStep,
    Context,
    Received,
    require_cohort,
)
from strata.engine.method.requests import Pull, Trained
from strata.engine.models.base import init_params
from strata.engine.options import option
from strata.engine.params import Params, flatten, uniform_mean
from strata.engine.tree import between


@dataclass(frozen=True)
class DemLearnConfig(LocalSgd):
    """Settings of DemLearn; mixing, μ, K, the learning rate and the epochs are those of its authors' code."""

    lr: float = option(0.05, "learning rate of local SGD", gt=0)
    epochs: int = option(2, "passes over the client's data per call (E), where steps is 0", ge=0)
    levels: int = option(3, "K: levels of groups between the clients and the root", ge=0)
    mixing: float = option(0.7, "β: share of the level above in what groups and clients are mixed with", ge=0, le=1)
    mu: float = option(0.002, "μ: pull of a client's model towards what its group hands down", ge=0)

    def validate(self, path: str) -> None:
        """Refuse a pull under which models do not contract."""
        super().validate(path)
        if not self.lr * self.mu < 2:
            raise ConfigError(f"{path}lr·{path}mu = {self.lr * self.mu:g} makes models diverge: expected < 2.")


@dataclass(frozen=True)
class Global:
    """Global state: the root's model, and the groups of the last round.

    Attributes:
        root: the mean of all clients of the round.
        clients: their ids, ascending.
        parents: of each of them, the place of its parent in ``handed``.
        handed: v of every group, the root first.
    """

    root: Params
    clients: tuple[int, ...] = ()
    parents: tuple[int, ...] = ()
    handed: tuple[Params, ...] = ()


@dataclass(frozen=True)
class Personal:
    """Private state of a client: w_i as it was trained, None before its first call."""

    w: Params | None = None


@dataclass(frozen=True)
class Down:
    """Server → client: v of its parent, and how long to train."""

    v: Params
    length: Length


@dataclass(frozen=True)
class Up:
    """Client → server: w_i."""

    w: Params


class DemLearn(FlatAlgorithm[Global, Personal, Down, Up]):
    """DemLearn: personal models, drawn towards the means of groups that form anew every round."""

    Config = DemLearnConfig
    has_personal_model = True
    config: DemLearnConfig

    def init_global(self, seed: int) -> Global:
        """A freshly initialised root, and no groups."""
        return Global(init_params(self.model, seed))

    def init_client(self, info: ClientInfo, seed: int) -> Personal:
        """No model before the first call."""
        return Personal()

    def to_client(self, g: Global, info: ClientInfo, assignment: Assignment) -> Down:
        """What the client's parent hands down, and how long to train."""
        place = bisect_left(g.clients, info.id)
        known = g.clients[place : place + 1] == (info.id,)
        return Down(g.handed[g.parents[place]] if known else g.root, Length.of(assignment))

    def client_step(self, info: ClientInfo, state: Personal, down: Down, context: Context) -> ClientStep[Personal, Up]:
        """w_i ← (1 − β) w_i + β v;  w_i ← local SGD under the pull of v."""
        config = self.config
        start = down.v if state.w is None else mixed(state.w, down.v, config.mixing)
        pull = (Pull(down.v, config.mu),) if config.mu and state.w is not None else ()
        trained: Trained = yield config.train(self.model, start, down.length, pull)
        return ClientResult(Up(trained.params), Personal(trained.params))

    def global_step(self, g: Global, ups: Sequence[Received[Up]], context: Context) -> Global:
        """Form groups by the clients' models; m up to the root, v down to the clients."""
        require_cohort("DemLearn", ups)
        models = [up.message.w for up in ups]
        parents, handed = [0] * len(ups), [uniform_mean(models)]
        for group in groups(merges(models), len(models), self.config.levels):
            if group.above is not None:
                mean = uniform_mean([models[place] for place in group.members])
                handed.append(mixed(mean, handed[group.above], self.config.mixing))
            for place in group.members:
                parents[place] = group.place
        return Global(handed[0], tuple(up.sender for up in ups), tuple(parents), tuple(handed))

    def between(self, before: Global, after: Global, share: float) -> Global:
        """The groups as they are afterwards, and the root's model between the two."""
        return replace(after, root=between(before.root, after.root, share))

    def personal_model(self, state: Personal) -> Params | None:
        """The client's model w_i, as it was trained."""
        return state.w

    def global_model(self, g: Global) -> Params:
        """The root's model."""
        return g.root


@dataclass(frozen=True)
class Group:
    """A group of clients, by their places in the cohort; its own place among all groups, and that of the one above."""

    place: int
    above: int | None
    members: tuple[int, ...]


def mixed(own: Params, above: Params, share: float) -> Params:
    """(1 − share) own + share above."""
    return {name: (1 - share) * value + share * above[name] for name, value in own.items()}


def merges(models: Sequence[Params]) -> NDArray[np.int64]:
    """The pairs of clusters that are merged one after the other, ``(n − 1, 2)``; the k-th pair makes cluster n + k."""
    if len(models) == 1:
        return np.zeros((0, 2), np.int64)
    from scipy.cluster.hierarchy import linkage  # takes a second to import

    vectors = np.stack([flatten(model).double().numpy() for model in models])  # (n, D)
    return np.asarray(linkage(vectors, "average")[:, :2], np.int64)


def groups(pairs: NDArray[np.int64], clients: int, levels: int) -> Iterator[Group]:
    """The root and the groups below it, each after the one above it, from the pairs that :func:`merges` gives.

    Args:
        pairs: of clusters, ``(n − 1, 2)``.
        clients: n, one at least.
        levels: how often groups are split at most.
    """
    members = [(place,) for place in range(clients)]
    for one, other in pairs.tolist():
        members.append((*members[one], *members[other]))
    waiting: list[tuple[int, int | None, int]] = [(len(members) - 1, None, 0)]
    for place in range(len(members)):
        if place == len(waiting):
            return
        cluster, above, depth = waiting[place]
        yield Group(place, above, tuple(sorted(members[cluster])))
        if depth < levels and cluster >= clients:
            waiting += [(child, place, depth + 1) for child in pairs[cluster - clients].tolist() if child >= clients]


METHOD = DemLearn
