"""What only a CUDA device can show."""

import pytest
import torch

from strata.engine.federation import Federation
from tests.helpers.small import small

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]


@pytest.mark.parametrize("method", ["permfl", "fedavg"])
def test_training_happens_on_the_device_and_repeats_to_the_bit(method):
    prints = []
    for _ in range(2):
        torch.cuda.reset_peak_memory_stats()
        with Federation(small(method, "clients.num_gpus=0.5", "model=cnn")) as federation:
            records = list(federation)
            prints.append(federation.fingerprint())
        assert torch.cuda.max_memory_allocated() > 2**20
        assert records[-1].train_loss < records[0].train_loss
    assert prints[0] == prints[1]


def test_the_share_of_memory_is_enforced():
    with Federation(small("fedavg", "clients.num_gpus=0.1", "rounds=1")):
        total = torch.cuda.get_device_properties(0).total_memory
        with pytest.raises(torch.cuda.OutOfMemoryError):
            torch.empty(int(total * 0.2), dtype=torch.uint8, device="cuda")
    torch.cuda.set_per_process_memory_fraction(1.0)


@pytest.mark.parametrize(
    ("model", "form"), [("mclr", "primal"), ("mclr", "dual"), ("cnn", "primal"), ("cnn_permfl_fmnist", "primal")]
)
def test_a_cohort_trained_as_one_learns_what_its_clients_learn_one_by_one(model, form):
    learnt = []
    for together in ((), ("training.batch_clients=8", f"training.linear={form}")):
        words = ("clients.num_gpus=0.5", f"model={model}", "rounds=1", "method.epochs=3", *together)
        with Federation(small("fedavg", *words)) as federation:
            federation.run_round()
            learnt.append(federation.rounds.snapshot().server.w)
            assert not federation.singly
    for name, alone in learnt[0].items():
        torch.testing.assert_close(learnt[1][name], alone, rtol=1e-4, atol=1e-5)
