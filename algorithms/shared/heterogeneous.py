"""What methods have in common whose clients keep private models of different architectures.

There is no global model: servers see what the architectures have in common, and clients are scored by their personal
models (PM).

# B batch, K classes, F features
"""

from abc import abstractmethod
from collections.abc import Generator, Mapping
from typing import Any

from strata.engine.errors import ConfigError
from strata.engine.method.algorithm import FlatAlgorithm
from strata.engine.method.messages import C, ClientInfo, Down, G, Up
from strata.engine.method.requests import Evaluate, Evaluation, Request
from strata.engine.models.base import Buildable, init_params, parameter_count
from strata.engine.models.spec import Family, ModelSpec, family_of, feature_width
from strata.engine.params import Params


class HeterogeneousAlgorithm(FlatAlgorithm[G, C, Down, Up]):
    """A flat method in which client i trains a private model of architecture i mod n of a family.

    Its configuration is a :class:`~strata.engine.method.local.LocalSgd`. The private model of a client is drawn from
    the client's seed alone, so all these methods start from the same ones.
    """

    has_personal_model = True
    takes_families = True

    def __init__(self, config: Any, model: Buildable) -> None:
        """Keep the family of architectures; a single one is a family of one."""
        super().__init__(config, model)
        self.family: Family = family_of(model)

    def architecture(self, info: ClientInfo) -> ModelSpec:
        """The architecture of a client's private model."""
        return self.family.of(info.id)

    def fresh_model(self, info: ClientInfo, seed: int) -> Params:
        """A client's private model before its first call; ``seed`` as ``init_client`` was given it."""
        return init_params(self.architecture(info), seed)

    @abstractmethod
    def init_client(self, info: ClientInfo, seed: int) -> C:
        """The private state before the first call, with :meth:`fresh_model` in it."""

    def global_model(self, g: G) -> Params | None:
        """The global model: None, because architectures differ."""
        return None

    @abstractmethod
    def personal_model(self, state: C) -> Params:
        """The parameters of the client's private model."""

    def personal_evaluation(self, info: ClientInfo, state: C) -> Evaluate:
        """How PM is evaluated: the private model by itself, unless the method says otherwise."""
        return Evaluate(self.architecture(info), self.personal_model(state))

    def client_evaluate(
        self, info: ClientInfo, state: C | None, shared: Mapping[str, Params]
    ) -> Generator[Request, Any, Mapping[str, Evaluation]]:
        """Evaluate PM on the client's test data; a client that was never called has a freshly drawn one."""
        known = self.init_client(info, 0) if state is None else state
        return {"PM": (yield self.personal_evaluation(info, known))}


def common_width(family: Family, method: str) -> int:
    """The number of features F, where all architectures of a family have the same.

    Raises:
        ConfigError: when they have not, or one exposes no features.
    """
    widths = {member: feature_width(member) for member in family.members}
    if len(set(widths.values())) > 1:
        found = ", ".join(f"{member.name}: {width}" for member, width in widths.items())
        raise ConfigError(
            f"{method} shares what sits on the features, so all models need the same number of them; found {found}. "
            "Let the last layer before the head be equally wide in all of model.family, as it is in cnn_five, "
            "cnn_series_five and transformer_five."
        )
    return widths[family.members[0]]


def shared_member(family: Family, number: int) -> ModelSpec:
    """The architecture of a family that a method shares: by its number, or, with -1, the smallest.

    Raises:
        ConfigError: when there is none of that number.
    """
    if number >= len(family.members):
        raise ConfigError(
            f"method.shared={number} is out of range: the family has {len(family.members)} architectures, expected "
            f"≥ -1 and < {len(family.members)}."
        )
    return family.members[number] if number >= 0 else min(family.members, key=parameter_count)
