"""Runs that follow each other on one Ray, and what ends it."""

import pytest
import ray

from strata.cluster.cli import main
from strata.engine.errors import ResourceError
from strata.engine.federation import Federation
from strata.engine.runtime import local_ray
from strata.engine.runtime.ray import kept
from tests.helpers.small import small, small_overrides


@pytest.fixture
def starts(monkeypatch):
    """What each local Ray was started with, as they are."""
    seen, whole = [], ray.init

    def init(**options):
        seen.append(options["num_cpus"])
        return whole(**options)

    monkeypatch.setattr(ray, "init", init)
    yield seen
    assert not ray.is_initialized()


@pytest.mark.slow
def test_the_runs_of_a_command_share_a_ray_which_ends_with_the_last(starts, tmp_path, capsys):
    words = small_overrides("fedavg", "rounds=1", "clients_per_actor=8", "seeds=[0,1]", runtime="ray")
    assert main(["compare", "fedavg", "fedprox", *words, f"output={tmp_path}"]) == 0
    assert starts == [2]
    assert capsys.readouterr().out.count("starting Ray") == 1


@pytest.mark.slow
def test_a_ray_that_is_kept_is_left_for_runs_that_ask_for_another_and_once_it_is_lost(starts):
    def run(cpus, *words):
        return Federation(small("fedavg", "clients_per_actor=8", f"ray.num_cpus={cpus}", *words, runtime="ray"))

    with kept():
        run(1).close()
        assert ray.is_initialized()
        with run(1) as federation:
            assert federation.run_round().round == 1
        assert starts == [1]
        run(2).close()
        assert starts == [1, 2]
        with pytest.raises(ResourceError):
            run(2, "clients.num_cpus=3")
        with run(2) as federation:
            federation.runtime.abandon()
        assert not ray.is_initialized()
    assert starts == [1, 2, 2]


@pytest.mark.slow
@pytest.mark.exhaustive
def test_a_ray_that_was_there_before_stays(starts):
    local_ray.start(1, 0)
    with kept(), Federation(small("fedavg", "clients_per_actor=8", runtime="ray")) as federation:
        assert federation.run_round().round == 1
    assert ray.is_initialized()
    ray.shutdown()


@pytest.mark.slow
def test_one_that_has_begun_is_the_runs_own(starts):
    local_ray.begin(2, 0)
    local_ray._begun.error()  # it is there before anybody asks
    with Federation(small("fedavg", "clients_per_actor=8", runtime="ray")) as federation:
        assert federation.run_round().round == 1
    assert not ray.is_initialized()
    assert starts == [2]
