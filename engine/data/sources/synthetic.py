"""Synthetic(α, β): the FedProx paper's generator (Li et al., MLSys 2020), as PerMFL uses it.

Client u draws its own linear model and its own input distribution, so clients differ in both::

    a_u ~ N(0, α)   W_u, b_u ~ N(a_u, 1)         how much the models differ
    B_u ~ N(0, β)   v_u ~ N(B_u, 1)              how much the inputs differ
    x ~ N(v_u, Σ),  Σ_jj = j^-1.2,  y = argmax(W_u x + b_u)

α and β are standard deviations, as in the authors' code (the paper writes them as the second argument of N without
saying which). Sizes: ⌊lognormal(4, 2)⌋ + 50 samples a client, with 60 features and 10 classes, also as in that code.

# n samples of one client, F features, K classes
"""

import numpy as np
from numpy.typing import NDArray

from strata.engine.data.capacity import require_memory
from strata.engine.data.config import DataConfig
from strata.engine.data.sources.raw import Raw
from strata.engine.errors import DataError
from strata.engine.seeding import generator

FEATURES = 60
CLASSES = 10
LEAST = 50  # samples of a client


def client_sizes(clients: int, seed: int) -> NDArray[np.int64]:
    """Return samples of each client, ``(clients,)``: ⌊lognormal(4, 2)⌋ + 50."""
    drawn = generator(seed, "synthetic", "sizes").lognormal(4.0, 2.0, clients)
    return drawn.astype(np.int64) + LEAST


def client_samples(
    client: int, size: int, alpha: float, beta: float, seed: int
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """One client's inputs ``(n, F)`` and classes ``(n,)``; they do not depend on how many clients there are."""
    draws = generator(seed, "synthetic", "client", client)
    model_centre, input_centre = draws.normal(0.0, alpha), draws.normal(0.0, beta)
    weights_FK = draws.normal(model_centre, 1.0, (FEATURES, CLASSES))
    bias_K = draws.normal(model_centre, 1.0, CLASSES)
    mean_F = draws.normal(input_centre, 1.0, FEATURES)
    deviation_F = np.arange(1, FEATURES + 1) ** -0.6
    x_nF = mean_F + deviation_F * draws.normal(size=(size, FEATURES))
    return x_nF.astype(np.float32), (x_nF @ weights_FK + bias_K).argmax(axis=1)


def _require_room(samples: int, clients: int) -> None:
    each = 2 * 4 * FEATURES  # among its client's, and among all
    require_memory(each * samples, f"{samples:,} synthetic samples of clients.count={clients}", "Lower it.")


def generate(config: DataConfig, clients: int, seed: int) -> Raw:
    """Generate the whole set; ``natural`` names each sample's client, for ``partition.name=natural``.

    Raises:
        DataError: if no client is asked for.
    """
    if clients < 1:
        raise DataError(f"synthetic data needs at least 1 client, {clients} were asked for.")
    _require_room(LEAST * clients, clients)  # before so many sizes are drawn
    sizes = client_sizes(clients, seed)
    _require_room(int(sizes.sum()), clients)
    parts = [client_samples(u, int(size), config.alpha, config.beta, seed) for u, size in enumerate(sizes)]
    width = len(str(clients - 1))
    return Raw(
        x=np.concatenate([x for x, _ in parts]),
        labels=np.concatenate([labels for _, labels in parts]),
        natural=np.repeat([f"{u:0{width}d}" for u in range(clients)], sizes),
        names=[str(label) for label in range(CLASSES)],
        ready=True,
    )
