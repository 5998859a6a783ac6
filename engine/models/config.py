"""The ``model`` part of the configuration."""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from strata.engine.errors import ConfigError
from strata.engine.models.supernets.spaces import NAMES
from strata.engine.models.zoo import FAMILIES, MODELS
from strata.engine.options import Validated, check, option, overlaid
from strata.engine.suggest import closest


@dataclass(frozen=True)
class ModelConfig(Validated):
    """Which architecture, and its size; or which architectures, where clients may differ in theirs."""

    name: str = option(
        "mclr",
        "mclr (softmax regression), dnn (one hidden layer of 20), mlp, cnn (scalable), cnn_permfl, cnn_permfl_fmnist "
        "(PerMFL's two), cnn_five (CNN-1 to CNN-5: client i has number i mod 5 + 1; cnn_five_1 to cnn_five_5: one of "
        "them), cnn_series (over time, scalable), cnn_series_five, transformer (for text, scalable), transformer_five "
        "(both five sizes, as in cnn_five), mobilenetv3, vit, mobilenetv3_small, vit_small (search spaces, of which "
        "model.architecture is one), or package.module:factory of your own, called with (input_shape, classes, "
        "**options)",
    )
    hidden: list[int] = option([200], "mlp: sizes of the hidden layers", ge=1)
    width: float = option(
        1.0,
        "cnn, cnn_series: multiplies the number of channels; cnn_five, cnn_series_five: the first dense layer; "
        "transformer: the 64 channels of a token; transformer_five: those of all five",
        gt=0,
    )
    depth: int = option(
        2, "cnn, cnn_series: number of convolution blocks; transformer: of encoder blocks", ge=1, le=100
    )
    features: int = option(
        500,
        "cnn_five, cnn_series, cnn_series_five, transformer, transformer_five: width of the last layer before the "
        "head, the same in all five",
        ge=1,
    )
    architecture: str = option(
        "largest",
        "search spaces: largest, smallest, random, random:N (drawn from the seed N), or option indices 0,2,1,…; not "
        "for methods that search",
    )
    options: dict[str, Any] = option(
        {},
        "keyword arguments of your own factory; search spaces: other options for some slots, e.g. {stage1.width: [16]}",
    )
    family: list[Any] = option(
        [],
        "architectures that differ by client: client i has number i mod n. Each a name, or settings of this group: "
        "[cnn, {name: mlp, hidden: [100]}]; what an entry leaves out is as in this group",
    )

    @property
    def is_family(self) -> bool:
        """Whether clients differ in their architectures: there are members, or the name stands for several."""
        return bool(self.family) or self.name in FAMILIES

    def members(self, path: str = "model.") -> list["ModelConfig"]:
        """One configuration per architecture; ``path`` prefixes the keys in errors."""
        if self.family:
            return [_member(self, entry, f"{path}family[{i}]") for i, entry in enumerate(self.family)]
        return [replace(self, name=name) for name in FAMILIES.get(self.name, (self.name,))]

    @property
    def slots(self) -> dict[str, object]:
        """Search spaces: the options by slot; ``model.options.stage1.width=[16]`` means the slot ``stage1.width``."""
        flat: dict[str, object] = {}
        for name, value in self.options.items():
            inner = value if isinstance(value, Mapping) else {}
            flat |= {f"{name}.{kind}": options for kind, options in inner.items()} or {name: value}
        return flat

    def validate(self, path: str) -> None:
        """Refuse models that there are not, and options for one that takes none; ``path`` prefixes the keys in errors.

        Of a family each member is checked. Whether a factory of the user's own exists shows only when it is built.

        Raises:
            ConfigError: naming the key, its value and what was expected.
        """
        if self.family:
            for i, member in enumerate(self.members(path)):
                check(member, f"{path}family[{i}].")
            return
        if ":" in self.name:
            return
        require_known(self.name, path)
        if self.name in NAMES:
            if not all(isinstance(values, list) for values in self.slots.values()):
                raise ConfigError(
                    f"{path}options={dict(self.options)}: expected lists, e.g. {{stage1.width: [16, 24]}}."
                )
        elif self.options:
            raise ConfigError(
                f"{path}options={dict(self.options)}: {path}name={self.name} takes none; they are for search "
                "spaces and for a package.module:factory of your own."
            )


def _member(base: ModelConfig, entry: object, key: str) -> ModelConfig:
    given = {"name": entry} if isinstance(entry, str) else entry
    if not isinstance(given, Mapping):
        keys = ", ".join(field.name for field in fields(base) if field.name != "family")
        raise ConfigError(f"{key}={entry!r}: expected the name of a model, or settings: {keys}.")
    member = overlaid(replace(base, family=[]), given, key.partition("[")[0], f"{key}.")
    if member.is_family:
        raise ConfigError(f"{key}: {member.family or member.name} is a family itself; name its members.")
    return member


def require_known(name: str, path: str) -> None:
    """Refuse the name of a model that does not ship with Strata; ``path`` prefixes the key in the error.

    Raises:
        ConfigError: with the closest name.
    """
    known = [*MODELS, *FAMILIES, *NAMES]
    if name not in known:
        raise ConfigError(
            f"{path}name={name}: no such model.{closest(name, known)} Found: {', '.join(known)}; "
            "package.module:factory names your own."
        )
