"""PerFedRLNAS in asynchronous rounds: its weights, and agents that are paid when their clients' reports are in."""

import numpy as np
import torch

from strata.agents.families.relative import EVERYONE
from strata.algorithms.perfedrlnas import Up, asynchronous_weights
from strata.cluster.run.session import Session
from strata.engine.method.messages import Received
from strata.engine.tree import fingerprint
from tests.helpers.moments import AT
from tests.helpers.supernets import ONE, method_of, searching


def upload(method, g, client, samples, factor, staleness):
    """Of all of W, plus normal noise by a factor."""
    rng = np.random.default_rng(client)
    w = {n: v + factor * torch.from_numpy(rng.normal(size=tuple(v.shape)).astype("f4")) for n, v in g.w.items()}
    return Received(client, samples, Up(w, 0.5, 1, 8), staleness=staleness)


def test_asynchronous_weights_are_the_released_ones():
    # n ((cos + 1)/2 + 3 · 10/(s + 10)): 10 (1 + 3), 10 (0 + 3/2), 4 (1/2 + 1)
    assert asynchronous_weights([10, 10, 4], [1.0, -1.0, 0.0], [0, 10, 20]) == [40.0, 15.0, 6.0]


def test_asynchronous_uploads_are_fused_by_their_weights():
    method = method_of(ONE, weights="asynchronous")
    g = method.init_global(0)
    ups = [upload(method, g, client, *how) for client, how in enumerate([(30, 0.1, 4), (10, 0.3, 0)])]
    vectors = [
        np.concatenate([(up.message.subnet[name] - g.w[name]).numpy().ravel() for name in g.w]).astype("f8")
        for up in ups
    ]
    plain = (30 * vectors[0] + 10 * vectors[1]) / 40
    cosines = [v @ plain / np.linalg.norm(v) / np.linalg.norm(plain) for v in vectors]
    first, second = 30 * ((cosines[0] + 1) / 2 + 30 / 14), 10 * ((cosines[1] + 1) / 2 + 3)
    expected = (first * vectors[0] + second * vectors[1]) / (first + second)
    after = method.global_step(g, ups, AT).w
    found = np.concatenate([(after[name] - g.w[name]).numpy().ravel() for name in g.w])
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-6)
    assert abs(expected - plain).max() > 1e-3


RELEASED = (
    "agents.policy=rllib",
    "clients.mode=async",
    "clients.count=8",
    "clients.concurrency=5",
    "clients.buffer=2",
    "clients.max_staleness=10",
    "method.weights=asynchronous",
    "delays=pareto",
    "delays.shape=1",
)


def test_virtual_agents_learn_when_their_clients_reports_are_in(tmp_path):
    config = searching(*RELEASED, "rounds=5")
    with Session(config) as session:
        for _ in range(2):
            session.run_round()
        saved = session.save(tmp_path)
        unpaid = {agent for agent in session._policies.unpaid}
        away = {f"client_{one.receiver}" for one in session.federation.rounds.snapshot().aloft.calls}
        assert away <= unpaid
        learnt = set()
        while session.round < 5:
            before = fingerprint_by_agent(session)
            record = session.run_round()
            moved = {agent for agent, made in fingerprint_by_agent(session).items() if made != before[agent]}
            assert moved == {f"client_{client}" for client in record.calls.client[record.calls.completed]}
            learnt |= moved & unpaid
        expected = session.fingerprint()
    assert learnt & away
    with Session(config) as session:
        session.restore(saved)
        while session.round < 5:
            session.run_round()
        assert session.fingerprint() == expected


def fingerprint_by_agent(session):
    modules = session._policies.state()["learners"]["relative"]["rl_module"]
    return {agent: fingerprint(own) for agent, own in modules.items() if agent != EVERYONE}
