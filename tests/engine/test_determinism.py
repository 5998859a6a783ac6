"""The number of threads and the global generator: restored, and never a method's concern."""

import pytest
import torch

from strata.algorithms.fedavg import FedAvg
from strata.algorithms.permfl import PerMFL
from strata.engine.determinism import single_thread, torch_scope
from strata.engine.federation import Federation
from strata.engine.method.situation import Decisions
from tests.helpers.small import small


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def test_the_thread_count_is_restored(two_threads):
    with single_thread():
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == 2


def test_a_scope_leaves_the_global_generator_as_it_was():
    before = torch.get_rng_state()
    with torch_scope(5):
        first = torch.rand(3)
    with torch_scope(5):
        assert (torch.rand(3) == first).all()
    with pytest.raises(KeyError), torch_scope(5):
        raise KeyError
    assert (torch.get_rng_state() == before).all()


FLAT = ("init_global", "init_client", "to_client", "client_step", "global_step", "assess", "global_model")
TIERED = ("to_team", "start_team", "team_step", "to_global", "team_model", "steer")


@pytest.mark.parametrize(("kind", "names"), [(FedAvg, FLAT), (PerMFL, (*FLAT[:5], FLAT[6], *TIERED))])
def test_the_engine_gives_methods_one_thread(monkeypatch, two_threads, kind, names):
    seen = {}

    def watch(name):
        plain = getattr(kind, name)

        def watched(*args):
            seen.setdefault(name, set()).add(torch.get_num_threads())
            return plain(*args)

        monkeypatch.setattr(kind, name, watched)

    for name in names:
        watch(name)
    with Federation(small(kind.__name__.lower(), "rounds=1", "evaluation.every=1")) as federation:
        steered = Decisions({client: {} for client in range(8)}, {"lam": 0.5, "gamma": 1.5} if kind is PerMFL else {})
        federation.run_round(steered)
    assert seen == {name: {1} for name in names}
    assert torch.get_num_threads() == 2
