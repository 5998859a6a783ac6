"""HAPFL's decisions: what is told to whom, rewards, rules and ablations; whole federations under them."""

import dataclasses

import numpy as np
import pytest
from gymnasium.spaces import MultiDiscrete

from strata.algorithms.controls import stragglers as _stragglers
from strata.algorithms.controls.allocation import tightest
from strata.algorithms.controls.stragglers import MENU, StragglerControl, spread
from strata.algorithms.hapfl import Hapfl
from strata.cluster.run.session import Session
from strata.engine.build import build_world
from strata.engine.errors import ConfigError
from strata.engine.federation import Federation
from strata.engine.method.situation import Decisions, Situation
from strata.engine.rounds.costs import CallCosts
from strata.envs.opening import control_of, full_turns, timing_turns
from strata.envs.turns import Turn
from tests.helpers.calls import call_rows, report
from tests.helpers.small import small

TINY = ("model=mlp", "model.hidden=[16]", "method.batch_size=16", "data.limit=400", "agents.policy=none")
LAYOUTS = ("size+intensity", "allocation+aggregation")


@pytest.fixture(scope="module")
def world():
    return build_world(small("hapfl", *TINY, "method.epochs=5"))


def control(world, layout="", **changes):
    changed = dataclasses.replace(world.algorithm.config, **changes)
    made = Hapfl(changed, world.algorithm.model)
    own = dataclasses.replace(world, algorithm=made)
    return StragglerControl(made, world.infos, CallCosts(own), 6, layout)


def situation(clients=(0, 2, 3, 7), seed=0):

    rng = np.random.default_rng(seed)
    k = len(clients)
    return Situation(
        1, list(clients), np.zeros(k), rng.lognormal(-20, 1, k), rng.lognormal(-14, 1, k), rng.lognormal(-13, 1, k)
    )


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("seed", range(5))
def test_the_total_intensity_is_kept_exactly_and_everybody_gets_some(world, layout, seed):
    made, now, draws = control(world, layout), situation(), np.random.default_rng(seed)
    chosen = {}
    for (agent,) in made.stages(now):
        assert made.agents[agent].observation_space.contains(made.observe(agent, now, chosen))
        chosen[agent] = made.suggest("random", agent, now, chosen, draws)
        assert made.agents[agent].action_space.contains(chosen[agent])
    told = made.decide(now, chosen).clients
    assert list(told) == [0, 2, 3, 7]
    assert sum(t["epochs"] for t in told.values()) == 4 * 5
    assert min(t["epochs"] for t in told.values()) >= 1
    assert {t["size"] for t in told.values()} <= {0, 1, 2, 3}
    if layout == LAYOUTS[1]:
        assert sum(t["weight"] for t in told.values()) == pytest.approx(1)


def test_shares_are_softmax_and_menu(world):
    now = situation()
    logits = np.array([np.log(4.0), 0.0, 0.0, 0.0, 3.0, 3.0], np.float32)  # two rows without a client
    told = control(world).decide(now, {"size": [0, 1, 2, 3, 0, 0], "intensity": logits}).clients
    # 20 epochs, one for each first: the other 16 in shares 4:1:1:1 = 9.14, 2.29, 2.29, 2.29.
    assert [t["epochs"] for t in told.values()] == [10, 4, 3, 3]
    assert [t["size"] for t in told.values()] == [0, 1, 2, 3]
    menu = np.array([0, MENU.index(4.0), 1, MENU.index(1.0), 2, MENU.index(1.0), 3, MENU.index(1.0), 0, 0, 0, 0])
    weights = np.array([0.0, 0.0, np.log(2.0), 0.0, 3.0, 3.0], np.float32)
    told = control(world, LAYOUTS[1]).decide(now, {"allocation": menu, "aggregation": weights}).clients
    assert [t["epochs"] for t in told.values()] == [10, 4, 3, 3]
    assert [t["size"] for t in told.values()] == [0, 1, 2, 3]
    np.testing.assert_allclose([t["weight"] for t in told.values()], [0.2, 0.2, 0.4, 0.2], rtol=1e-6)


def test_steps_are_shared_out_where_the_method_counts_in_steps(world):
    made = control(world, steps=7)
    told = made.decide(situation(), {"size": np.zeros(6, int), "intensity": np.zeros(6, np.float32)}).clients
    assert [t["steps"] for t in told.values()] == [7] * 4
    assert "epochs" not in told[0]


def outcome(total, completed, gain=0.0):
    return report(range(len(total)), 9.0, 1.0, gain=gain, lost=~np.array(completed), compute_s=np.array(total, float))


def test_rewards_have_their_signs(world):
    made, now = control(world, accuracy_reward=2.0), situation()
    chosen = {"size": np.array([0, 3, 1, 2, 0, 0]), "intensity": np.zeros(6, np.float32)}
    paid = made.rewards(now, chosen, outcome([1.0, 3.0, 2.0, 9.0], [True, True, True, False], gain=0.25))
    assert paid["intensity"] == pytest.approx(-(3 - 1) / 2 + 2.0 * 0.25)  # the one who was lost does not count
    # T̂ of the sizes at five epochs each, whatever the intensities were: what was measured times what is counted.
    seconds = []
    for row, (client, size) in enumerate(zip(now.clients, (0, 3, 1, 2), strict=True)):
        cost = made.costs.call(client, {"size": size, "epochs": 5})
        seconds.append(
            cost.bytes_down * now.s_per_byte_down[row]
            + cost.flops * now.s_per_flop[row]
            + cost.bytes_up * now.s_per_byte_up[row]
        )
    assert paid["size"] == pytest.approx(-(max(seconds) - min(seconds)) / np.mean(seconds))
    even = made.rewards(now, {"intensity": chosen["intensity"]}, outcome([2.0, 2.0], [True, True]))
    assert even == {"intensity": 0.0}  # the best there is, and nobody else acted
    other = control(world, LAYOUTS[1])
    both = {"allocation": np.zeros(12, int), "aggregation": np.zeros(6, np.float32)}
    paid = other.rewards(now, both, outcome([1.0, 3.0], [True, True], gain=-0.125))
    assert paid == {"allocation": -1.0, "aggregation": -0.125}


def test_straggling_of_nobody_and_of_no_time_is_none():
    assert [spread(np.array(seconds)) for seconds in ([], [3.0], [0.0, 0.0])] == [0.0, 0.0, 0.0]
    assert spread(np.array([1.0, 3.0])) == 1.0


def test_observations_show_what_they_say(world):
    made, now = control(world), situation()
    probe = np.array([made.costs.probe(c).flops for c in now.clients]) * now.s_per_flop
    seen = made.observe("size", now, {})
    assert seen.shape == (6, 3)
    assert seen[:, 0].tolist() == [1, 1, 1, 1, 0, 0]
    np.testing.assert_allclose(seen[:4, 1], np.minimum(probe / probe.mean() - 1, 8), rtol=1e-5)
    np.testing.assert_allclose(seen[:4, 2], np.log(probe / probe.mean()), rtol=1e-4)
    seen = made.observe("intensity", now, {"size": np.array([2, 0, 3, 1, 0, 0])})
    np.testing.assert_array_equal(seen[:4, 3:7], np.eye(4)[[2, 0, 3, 1]])
    expected = made.expected_s(now, [2, 0, 3, 1], [5] * 4)
    np.testing.assert_allclose(seen[:4, 8], np.log(expected / expected.mean()), rtol=1e-4, atol=1e-6)
    assert (seen[4:] == 0).all()
    other = control(world, LAYOUTS[1])
    accurate = dataclasses.replace(now, metrics={"validation_accuracy": np.array([0.5, np.nan, 0.25, 1.0])})
    seen = other.observe("aggregation", accurate, {"allocation": np.array([1, 0] * 6)})
    entropies = [world.infos[c].label_entropy for c in now.clients]
    np.testing.assert_allclose(seen[:4, 1], entropies, rtol=1e-6)
    assert seen[:4, 3].tolist() == [0.5, 0.0, 0.25, 1.0]  # nothing is known of the second


def test_rules(world):
    made, now, draws = control(world), situation(), np.random.default_rng(0)
    speed = now.s_per_flop * [made.costs.probe(c).flops for c in now.clients]

    def decided(rule):
        chosen = {}
        for (agent,) in made.stages(now):
            chosen[agent] = made.suggest(rule, agent, now, chosen, draws)
        return chosen, made.decide(now, chosen).clients

    _, told = decided("uniform")
    assert told == {client: {"size": 2, "epochs": 5} for client in now.clients}
    _, told = decided("greedy")
    # Work inversely proportional to probe time, 20 epochs in all; whole numbers of at least one differ by about one.
    wanted = 20 * (1 / speed) / (1 / speed).sum()
    np.testing.assert_allclose([t["epochs"] for t in told.values()], np.maximum(wanted, 1), atol=1.5)
    assert {t["size"] for t in told.values()} == {2}
    _, told = decided("optimum")
    sizes, work = ([t[key] for t in told.values()] for key in ("size", "epochs"))
    best = spread(made.expected_s(now, sizes, work))
    # The action gives exactly the plan that the enumeration found.
    times = [[made.expected_s(now, [s] * 4, [e] * 4) for e in range(1, 18)] for s in range(4)]
    planned_sizes, planned_work = tightest(np.array(times).transpose(2, 0, 1), 20)
    assert (sizes, work) == (planned_sizes.tolist(), planned_work.tolist())
    rng = np.random.default_rng(1)
    for _ in range(300):
        some = rng.multinomial(16, rng.dirichlet(np.ones(4))) + 1
        assert best <= spread(made.expected_s(now, rng.integers(0, 4, 4).tolist(), some.tolist())) + 1e-9
    with pytest.raises(ValueError, match="no such rule; expected one of uniform"):
        decided("best")


def test_rules_where_no_time_passes():
    config = small("hapfl", *TINY[:-1], "method.epochs=3", "delays=none", "agents.policy=greedy")

    with Session(config) as session:
        record, infos = session.run_round(), session.federation.world.infos
    assert record.round_s == 0.0
    # Nobody is slower than the others, so all get equal shares: three epochs of batches of 16.
    expected = {info.id: 3 * -(-info.train_samples // 16) for info in infos}
    assert {c.client: c.steps for c in call_rows(record.calls) if c.status == "ok"} == expected
    assert len(expected) == 8
    assert record.metrics["agents/intensity/reward"] == record.metrics["agents/size/reward"] == 0.0


@pytest.mark.parametrize(
    ("changes", "agents", "told"),
    [
        ({"size_agent": False}, ["intensity"], {"size": 2}),
        ({"intensity_agent": False}, ["size"], {"epochs": 5}),
        ({"size_agent": False, "intensity_agent": False}, [], {"size": 2, "epochs": 5}),
        ({"size_agent": False, "default_size": 0}, ["intensity"], {"size": 0}),
    ],
    ids=str,
)
def test_ablations_leave_their_part_to_the_default(world, changes, agents, told):
    made, now, draws = control(world, **changes), situation(), np.random.default_rng(0)
    assert list(made.agents) == agents
    assert [list(stage) for stage in made.stages(now)] == [[agent] for agent in agents]
    chosen = {}
    for agent in agents:
        made.observe(agent, now, chosen)
        chosen[agent] = made.suggest("random", agent, now, chosen, draws)
    for assignment in made.decide(now, chosen).clients.values():
        assert {key: assignment[key] for key in told} == told
    assert set(made.rewards(now, chosen, outcome([1.0, 2.0], [True, True]))) == set(agents)


def test_ablations_of_agents_that_a_layout_does_not_have_are_refused(world):
    with pytest.raises(ConfigError, match=r"method.size_agent=false .*Set agents.layout=size\+intensity"):
        control(world, LAYOUTS[1], size_agent=False)


def test_spaces(world):
    made = control(world)
    assert made.agents["size"].action_space == MultiDiscrete([4] * 6)
    assert made.agents["intensity"].action_space.high.tolist() == [_stragglers.BOUND] * 6
    assert made.agents["intensity"].observation_space.shape == (6, 9)
    other = control(world, LAYOUTS[1])
    assert other.agents["allocation"].action_space == MultiDiscrete([4, 5] * 6)
    assert other.agents["aggregation"].observation_space.shape == (6, 8)
    assert made.stages(situation(clients=())) == []


def states(federation):
    return federation.fingerprint()["models"]


def test_constant_actions_are_the_fixed_plan_to_the_bit():
    config = small("hapfl", *TINY, "clients.participation=0.5", "delays.dropout=0.2", "method.epochs=3")
    sizes, logits = np.array([3, 0, 1, 2]), np.array([1.0, -1.0, 0.5, 0.0], np.float32)
    # By hand: 12 epochs, one for each, and 8 in the shares of e^1, e^-1, e^0.5, e^0.
    shares = 8 * np.exp([1.0, -1.0, 0.5, 0.0]) / np.exp([1.0, -1.0, 0.5, 0.0]).sum()
    epochs = 1 + np.floor(shares).astype(int)
    epochs[np.argsort(-(shares % 1))[: 12 - epochs.sum()]] += 1
    with Federation(config) as one, Federation(config) as other:
        turns = full_turns(one)
        known = set()
        for _ in range(3):
            turns.open()
            turns.act({"size": sizes})
            turns.act({"intensity": logits})
            cohort = other.invite()
            new = [client for client in cohort if client not in known]
            if new:
                other.probe(new)
            known |= set(cohort)
            plan = zip(cohort, sizes, epochs, strict=True)
            other.run_round(Decisions({c: {"size": int(s), "epochs": int(e)} for c, s, e in plan}))
        assert one.fingerprint() == other.fingerprint()
        assert one.virtual_s > 0


def test_the_uniform_rule_is_the_method_without_agents_but_for_the_probes_time():

    words = ("clients.participation=0.5", "method.epochs=2")
    with Session(small("hapfl", *TINY, *words)) as plain:
        records = [plain.run_round() for _ in range(3)]
        expected = plain.fingerprint()
    with Session(small("hapfl", *TINY[:-1], *words, "agents.policy=uniform")) as ruled:
        probed = [ruled.run_round() for _ in range(3)]
        assert ruled.fingerprint()["models"] == expected["models"]
    for one, other in zip(records, probed, strict=True):
        probes = [call for call in call_rows(other.calls) if call.status == "probe"]
        assert other.round_s == pytest.approx(one.round_s + max((c.total_s for c in probes), default=0.0), rel=1e-12)
        assert other.flops == one.flops + sum(call.flops for call in probes)
        assert other.bytes_client_down == one.bytes_client_down + sum(call.bytes_down for call in probes)
        assert (other.invited, other.completed) == (one.invited, one.completed)
        assert other.train_loss == one.train_loss
        assert all(call.flops > 0 < call.bytes_down and call.bytes_up == 0 for call in probes)
    clients = [call.client for record in probed for call in call_rows(record.calls) if call.status == "probe"]
    assert len(clients) == len(set(clients)) == len({c.client for r in records for c in call_rows(r.calls)})


@pytest.mark.parametrize("layout", LAYOUTS)
def test_both_layouts_run_and_only_sizes_that_were_trained_move(layout):

    words = (f"agents.layout={layout}", "agents.policy=random", "clients.participation=0.4", "evaluation.every=1")
    config = small("hapfl", *TINY[:-1], *words)
    with Session(config) as session:
        before = session.federation.rounds.snapshot().server
        record = session.run_round()
        after = session.federation.rounds.snapshot()
        trained = {state.size for state in after.clients.values() if state.local is not None}
        for size in range(4):
            moved = any((after.server.sizes[size][n] != v).any() for n, v in before.sizes[size].items())
            assert moved == (size in trained)
    assert 0 < len(trained) < 4
    assert set(record.scores) == {"GM", "PM"}
    agents = control_of(config, session.federation.world).agents
    assert {f"agents/{agent}/reward" for agent in agents} <= set(record.metrics)


def test_expected_seconds_are_those_that_the_clock_charges_also_where_clients_share_a_link():
    words = ("delays=pareto", "delays.jitter=none", "delays.availability=1", "clients.participation=0.5")
    rates = ("delays.server_up_bytes_per_s=2e5", "delays.server_down_bytes_per_s=1e5")
    found = {}
    for links in ("each", "shared"):
        turns = timing_turns(small("hapfl", *TINY, *words, *rates, f"delays.server_links={links}", "rounds=5"))
        made, draws, found[links] = turns.control, np.random.default_rng(2), []
        for _ in range(5):
            turn = turns.open()
            now, chosen = turn.situation, {}
            # Where links are each's own, downloads stand for uploads before the first of these.
            known = np.isfinite(turns.memory.s_per_byte_up[list(now.clients)]) | (links == "shared")
            while isinstance(turn, Turn):
                actions = {agent: made.suggest("random", agent, now, chosen, draws) for agent in turn.observations}
                chosen |= actions
                turn = turns.act(actions)
            told = made.decide(now, chosen).clients.values()
            plan = ([one[key] for one in told] for key in ("size", "epochs"))
            expected_s = made.expected_s(now, *plan)
            np.testing.assert_allclose(turn.report.calls.total_s[known], expected_s[known])
            found[links] += turn.report.calls.total_s[known].tolist()
    assert 0 < len(found["each"]) < len(found["shared"]) == 20
    assert np.mean(found["shared"]) > 1.5 * np.mean(found["each"])
