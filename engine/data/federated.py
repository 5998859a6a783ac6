"""From configuration to a federation: load, deal, add label noise, form teams."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from strata.engine.data.config import DataConfig, FormationConfig, PartitionConfig
from strata.engine.data.dataset import ClientData, Dataset, FederatedData
from strata.engine.data.partition.dealing import partition as deal_to_clients
from strata.engine.data.partition.dealing import with_label_noise
from strata.engine.data.partition.holdout import server_rows, with_validation
from strata.engine.data.sources.catalogue import load
from strata.engine.data.teams.formation import form_teams
from strata.engine.errors import StrataWarning


def build(
    data: DataConfig,
    partition: PartitionConfig,
    formation: FormationConfig,
    clients: int,
    teams: int,
    seed: int,
    updates: Callable[[Dataset, Sequence[ClientData]], NDArray[np.floating]] | None = None,
    own: Dataset | None = None,
    rows: Mapping[int, Sequence[int]] | None = None,
) -> FederatedData:
    """Load the data set, deal it to ``clients`` clients and put these into ``teams`` teams.

    Whom samples come from, and which were published as test data, is left out of what is returned. A
    :class:`StrataWarning` says what of the set may have been read otherwise than it was meant.

    Args:
        data: which data set.
        partition: how samples are dealt to clients.
        formation: how clients form teams.
        clients: number of clients C.
        teams: number of teams; 0 for a federation without a team tier.
        seed: the run's seed.
        updates: makes the clients' model updates ``(C, D)`` for the formations that compare them; called at most once,
            with the data set after label noise.
        own: the data set, where it was given in Python.
        rows: of each client, by id, where they were.

    Raises:
        DataError: if the data set cannot be had, or cannot be dealt or grouped as asked.
    """
    clean = load(data, clients, seed, own)
    for caution in clean.remarks.cautions:
        warnings.warn(caution, StrataWarning, stacklevel=2)
    server = server_rows(clean, data, seed)
    held = np.concatenate([server.train, server.test])
    parts = deal_to_clients(clean, clients, partition, data, seed, rows, held)
    parts = with_validation(clean, parts, data.validation_fraction, seed)
    dataset = with_label_noise(clean, parts, data.label_noise, seed)
    dataset = replace(dataset, natural=None, natural_test=None)  # as long as the data, and of no use any more
    if teams == 0:
        return FederatedData(dataset, parts, server=server)
    make = None if updates is None else lambda: updates(dataset, parts)
    return FederatedData(dataset, parts, form_teams(dataset, parts, teams, formation, seed, make), server)
