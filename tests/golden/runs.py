"""Golden runs: every method for three rounds, its agents learning where it has them, as digests.

A change of the code that is not meant to change a result leaves ``digests.json`` as it is. One that is meant to runs
``python -m tests.golden``, which prints what changed, and says so in the changelog.

Bits differ between processor types and between versions of torch and numpy, so digests are kept by what the arithmetic
of a machine gives: :func:`arithmetic`. On a machine whose arithmetic is not in the file, the placements are still
compared with each other; ``python -m tests.golden`` adds that machine's digests.
"""

import hashlib
import json
from pathlib import Path

import numpy as np
import torch

from strata.cluster.run.session import Session
from strata.engine.config.schema import RunConfig
from strata.engine.method.find import load_method, method_names
from tests.helpers.small import small

FILE = Path(__file__).with_name("digests.json")
ROUNDS = 3

SETTING = (
    f"rounds={ROUNDS}",
    "clients.count=3",
    "clients.participation=0.75",
    "data.limit=400",
    "partition.labels_per_client=4",
    "delays.dropout=0.15",
    "ray.num_cpus=3",
)
LEARNING = ("agents.policy=rllib", "agents.rounds_per_update=2", "agents.hidden=8", "agents.epochs=2")
OWN = {
    "hapfl": ("model=mlp", "model.hidden=[16]", "method.epochs=2"),
    "fedddrl": ("method.batch_size=16",),
    "pfedme": ("method.batch_size=16",),
}
VARIANTS = {
    "perfedrlnas, published reward": ("perfedrlnas", ("method.reward=published", "method.recalibration_batches=0")),
}
"""Golden runs beside those of every method: by name, the method and what differs."""

PLACEMENTS = {
    "in-process": ("runtime=inprocess",),
    "Ray, two actors": ("runtime=ray", "clients_per_actor=2"),
    "Ray, one actor per client": ("runtime=ray", "clients_per_actor=1"),
}

Digests = dict[str, str]


def names() -> list[str]:
    """Names of all golden runs: the methods, then the :data:`VARIANTS`."""
    return [*method_names(), *VARIANTS]


def config_of(name: str, placement: str) -> RunConfig:
    """The golden run of a method, or one of :data:`VARIANTS`, at one of :data:`PLACEMENTS`."""
    method, differing = VARIANTS.get(name, (name, ()))
    learning = LEARNING if load_method(method).Control is not None else ()
    return small(method, *SETTING, *OWN.get(method, ()), *learning, *PLACEMENTS[placement], *differing)


def play(config: RunConfig) -> Digests:
    """Digests of models, clock and metrics after the last round, and of the agents where there are any."""
    with Session(config) as session:
        while session.round < config.rounds:
            session.run_round()
        return {name: digest[:16] for name, digest in session.fingerprint().items()}


def arithmetic() -> str:
    """A digest of what this machine's torch and numpy make of some sums, convolutions and decompositions."""
    values = torch.linspace(-1, 1, 3 * 8 * 28 * 28).reshape(24, 1, 28, 28).sin().requires_grad_()
    kernel = torch.linspace(-1, 1, 16 * 25).reshape(16, 1, 5, 5).cos().requires_grad_()
    made = torch.nn.functional.conv2d(values, kernel).tanh().flatten(1)
    loss = torch.log_softmax(made @ made.T, 1).exp().square().sum()
    loss.backward()
    matrix = np.sin(np.arange(1.0, 1601.0)).reshape(40, 40)
    parts = [loss.detach().numpy(), kernel.grad.numpy(), values.grad.numpy(), *np.linalg.svd(matrix), np.exp(matrix)]
    digest = hashlib.sha256(f"torch {torch.__version__} numpy {np.__version__}".encode())
    for part in parts:
        digest.update(np.ascontiguousarray(part).tobytes())
    return digest.hexdigest()[:16]


def read() -> dict[str, dict[str, Digests]]:
    """Digests by arithmetic and method."""
    return json.loads(FILE.read_text(encoding="utf8")) if FILE.exists() else {}


def write(digests: dict[str, dict[str, Digests]]) -> None:
    """Replace the file."""
    FILE.write_text(json.dumps(digests, indent=1, sort_keys=True) + "\n", encoding="utf8")
