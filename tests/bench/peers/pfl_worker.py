"""FedAvg in pfl-research: ``python -m tests.bench.peers.pfl_worker SETTING.json``, once for each of its processes."""

import os
import sys

import numpy as np
import torch
import torch.nn.functional as F
from pfl.aggregate.simulate import SimulatedBackend
from pfl.algorithm.base import NNAlgorithmParams
from pfl.algorithm.federated_averaging import FederatedAveraging
from pfl.callback.base import TrainingProcessCallback
from pfl.data.dataset import Dataset
from pfl.data.federated_dataset import FederatedDataset
from pfl.data.sampling import get_user_sampler
from pfl.hyperparam.base import NNTrainHyperParams
from pfl.metrics import Metrics
from pfl.model.pytorch import PyTorchModel

from tests.bench.peers.work import Turns, read


def main(path: str) -> None:
    """Train until there is nothing more to do."""
    work, turns = read(path), Turns(os.environ["RANK"] == "0")
    work.model.loss = lambda x, y, **_: F.cross_entropy(work.model(x), y)  # type: ignore[assignment]
    work.model.metrics = lambda x, y, **_: {}  # type: ignore[assignment]
    np.random.seed(0)  # noqa: NPY002 - from which every process of pfl draws the same cohorts
    model = PyTorchModel(
        work.model, torch.optim.SGD, central_optimizer=torch.optim.SGD(work.model.parameters(), lr=1.0)
    )
    users = FederatedDataset(lambda user: Dataset(work.data[user]), get_user_sampler("random", range(len(work.data))))
    often = 10**9

    class Waits(TrainingProcessCallback):
        def after_central_iteration(self, aggregate_metrics, model, *, central_iteration):
            turns()
            return False, Metrics()

    FederatedAveraging().run(
        NNAlgorithmParams(often, often, work.cohort, None),
        SimulatedBackend(users, users),
        model,
        NNTrainHyperParams(
            local_batch_size=work.batch, local_num_epochs=None, local_num_steps=work.steps, local_learning_rate=work.lr
        ),
        callbacks=[Waits()],
    )


main(sys.argv[1])
