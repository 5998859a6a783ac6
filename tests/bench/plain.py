"""The plain loop that simulators are measured against: one process, one thread, nothing but torch."""

import time
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn


class PlainLoop:
    """Federated averaging as one would write it down: client after client, batch after batch."""

    def __init__(self, model: nn.Module, x: Tensor, y: Tensor, rows: Sequence[np.ndarray], lr: float) -> None:
        """``x`` (n, ...) float32 and ``y`` (n,) hold the ``rows`` of each client."""
        self._model, self._x, self._y, self._rows, self._lr = model, x, y, rows, lr
        self._state = {name: value.clone() for name, value in model.state_dict().items()}
        self._rng = np.random.default_rng(0)

    def round(self, cohort: Sequence[int], batch: int, steps: int) -> float:
        """Seconds of one round in which each client of the cohort makes some steps."""
        began = time.perf_counter()
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        uploads = [self._train(client, batch, steps) for client in cohort]
        self._state = {name: sum(up[name] for up in uploads) / len(uploads) for name in self._state}
        torch.set_num_threads(threads)
        return time.perf_counter() - began

    def _train(self, client: int, batch: int, steps: int) -> dict[str, Tensor]:
        self._model.load_state_dict(self._state)
        optimizer = torch.optim.SGD(self._model.parameters(), self._lr)
        rows, done = self._rows[client], 0
        while done < steps:
            order = torch.from_numpy(self._rng.permutation(rows))
            for chosen in order.split(batch)[: steps - done]:
                optimizer.zero_grad()
                F.cross_entropy(self._model(self._x[chosen]), self._y[chosen]).backward()
                optimizer.step()
                done += 1
        return {name: value.clone() for name, value in self._model.state_dict().items()}
