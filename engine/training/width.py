"""How many clients a trainer answers at once where the configuration leaves that open."""

from collections.abc import Sequence

from torch import nn

from strata.engine.determinism import torch_scope
from strata.engine.models.base import Buildable, FeatureModel

TOGETHER = 128
"""Clients at once on a CPU where it pays: more gain little, and take more memory."""

TOGETHER_ON_GPU = 256
"""Clients at once on a GPU, which a step of 64 small models does not fill."""

MOST_PARAMETERS = 1_000_000
"""Larger dense models keep a core busy by themselves."""

DENSE = (
    FeatureModel,
    nn.Sequential,
    nn.Flatten,
    nn.Identity,
    nn.Linear,
    nn.ReLU,
    nn.LeakyReLU,
    nn.ELU,
    nn.GELU,
    nn.SiLU,
    nn.Tanh,
    nn.Sigmoid,
)


def width_of(wanted: int | str, specs: Sequence[Buildable], on_gpu: bool) -> int:
    """How many clients' requests are answered as one operation, 1 for one by one.

    A number is taken as it is. ``auto`` rests on the configuration alone: :data:`TOGETHER_ON_GPU` where clients train
    on a GPU; :data:`TOGETHER` where all architectures are dense layers and activations with at most
    :data:`MOST_PARAMETERS` parameters, whose steps are more Python than arithmetic; else 1, because a convolution of
    several clients on a CPU takes about as long as one after the other.

    Args:
        wanted: ``training.batch_clients``.
        specs: the architectures of the run.
        on_gpu: whether clients were given a share of a GPU.
    """
    if wanted != "auto":
        return int(wanted)
    if on_gpu:
        return TOGETHER_ON_GPU
    return TOGETHER if all(_is_small_and_dense(spec) for spec in specs) else 1


def _is_small_and_dense(spec: Buildable) -> bool:
    with torch_scope(0):
        module = spec.build()
    small = sum(parameter.numel() for parameter in module.parameters()) <= MOST_PARAMETERS
    return small and all(isinstance(part, DENSE) for part in module.modules())
