"""FedAvg in Flower's simulation: ``python -m tests.bench.peers.flower_worker SETTING.json CORES``."""

import os
import sys

import torch
import torch.nn.functional as F
from flwr.app import ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg
from flwr.simulation import run_simulation

from tests.bench.peers.work import Turns, Work, read

client_app, server_app = ClientApp(), ServerApp()
KNOWN: dict[str, Work] = {}


def work() -> Work:
    """The work, read once per process."""
    path = os.environ["STRATA_BENCH_WORK"]
    if path not in KNOWN:
        KNOWN[path] = read(path)
    return KNOWN[path]


@client_app.train()
def train(message: Message, context: Context) -> Message:
    """Some steps of SGD on one client's rows."""
    here, (x, y) = work(), work().data[int(context.node_config["partition-id"])]
    here.model.load_state_dict(message.content["arrays"].to_torch_state_dict())
    optimizer = torch.optim.SGD(here.model.parameters(), here.lr)
    for chosen in torch.randperm(len(y)).split(here.batch)[: here.steps]:
        optimizer.zero_grad()
        F.cross_entropy(here.model(x[chosen]), y[chosen]).backward()
        optimizer.step()
    content = {"arrays": ArrayRecord(here.model.state_dict()), "metrics": MetricRecord({"num-examples": len(y)})}
    return Message(RecordDict(content), reply_to=message)


class Waits(FedAvg):
    """FedAvg that waits before each round until the benchmark says so."""

    turns = Turns(tells=True)

    def configure_train(self, server_round, arrays, config, grid):  # type: ignore[no-untyped-def]
        """Wait, then do as always."""
        try:
            self.turns()
        except SystemExit:
            os._exit(0)  # its threads would keep the process
        return super().configure_train(server_round, arrays, config, grid)


@server_app.main()
def serve(grid: Grid, context: Context) -> None:
    """Train until there is nothing more to do."""
    here = work()
    share = here.cohort / len(here.data)
    strategy = Waits(fraction_train=share, fraction_evaluate=0.0, min_available_nodes=len(here.data))
    strategy.start(grid, ArrayRecord(here.model.state_dict()), 10**9, train_config=ConfigRecord({}))


if __name__ == "__main__":
    os.environ["STRATA_BENCH_WORK"] = sys.argv[1]
    run_simulation(
        server_app,
        client_app,
        num_supernodes=len(work().data),
        backend_config={"client_resources": {"num_cpus": 1}, "init_args": {"num_cpus": int(sys.argv[2])}},
    )
