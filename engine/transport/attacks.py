"""Clients that want to harm: who they are, and how they label their training rows."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from strata.engine.data.dataset import ClientData, Dataset, FederatedData, IntArray
from strata.engine.seeding import generator
from strata.engine.transport.config import AttacksConfig


def attackers(config: AttacksConfig, clients: Sequence[int] | IntArray, seed: int) -> list[int]:
    """Who attacks: the share of some clients, rounded and at least one, ids ascending; nobody where the share is 0."""
    if not config.share:
        return []
    size = max(1, round(config.share * len(clients)))
    drawn = generator(seed, "attackers").choice(len(clients), size=size, replace=False)
    return sorted(int(clients[int(place)]) for place in drawn)


def multiple(config: AttacksConfig) -> float:
    """By what attackers multiply what they changed; 1 where they do something else."""
    return {"sign_flip": -config.factor, "scaled": config.factor}.get(config.kind, 1.0)


def with_flipped_labels(data: FederatedData, clients: Sequence[int]) -> FederatedData:
    """The data with class y of all training rows of some clients as K − 1 − y; test and validation rows keep theirs."""
    if not clients:
        return data
    data.dataset.require_classes("attacks.kind=label_flip", "sign_flip or scaled")
    return replace(data, dataset=_flipped(data.dataset, [data.clients[client] for client in clients]))


def _flipped(dataset: Dataset, clients: Sequence[ClientData]) -> Dataset:
    rows = np.unique(np.concatenate([client.train for client in clients]))
    y = dataset.y.copy()
    y[rows] = dataset.classes - 1 - y[rows]
    return replace(dataset, y=y)
