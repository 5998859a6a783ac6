"""Links that servers' children share: clients' and teams', by hand, and against a simulation of its own."""

import math

import numpy as np
import pytest
import torch

from strata.engine.build import build_world
from strata.engine.clock.devices import Profile
from strata.engine.errors import ConfigError
from strata.engine.federation import Federation
from strata.engine.method.calls import NO_TEAM, CallTable
from strata.engine.method.requests import Work
from strata.engine.rounds.accounts import charge
from strata.engine.rounds.cohort import ClientTier
from strata.engine.rounds.flying.links import TeamLink, link_of, together_on
from strata.engine.rounds.pools import ClientCall, ClientReply, TeamCall, TeamReply
from strata.engine.rounds.team import TeamServer
from strata.engine.rounds.team_tier import TeamTier
from strata.engine.rounds.timed import TimedRounds
from strata.envs.opening import TrainingRounds
from tests.helpers.arithmetic.processor_sharing import Sent, simulate
from tests.helpers.small import NOISY, small
from tests.helpers.worlds import PROFILES, world

LINKS = (
    "delays.server_up_bytes_per_s=1e5",
    "delays.server_down_bytes_per_s=2e5",
    "delays.team_up_bytes_per_s=5e4",
    "delays.team_down_bytes_per_s=4e5",
    "agents.policy=none",
)
SHARED = {"fedavg": "delays.server_links=shared", "permfl": "delays.team_links=shared"}


def charged(made, team):
    return charge(made, ClientCall(0, team, 2, 5, {}), 100, 60, Work(flops=300), {})


def test_a_cohort_shares_its_own_servers_link_of_which_a_client_uses_what_it_can():
    made = world(profiles=[PROFILES[0]] * 3, team_shares=True)
    replies = [ClientReply(client, "up", charged(made, 4)) for client in range(2)]
    # The team server sends 25 bytes/s and receives 10, half of which is less than the phone's 50 and 20.
    for reply in together_on(link_of(made, 4), replies, 0.0):
        call = reply.call
        assert (call.latency_s, call.download_s, call.compute_s, call.upload_s) == (0.5, 100 / 12.5, 3, 60 / 5)
    apart = [ClientReply(client, "up", charged(made, NO_TEAM)) for client in range(2)]
    assert together_on(link_of(made, NO_TEAM), apart, 0.0) == apart  # the global server's is not shared


def recorded(method, *words):
    with Federation(small(method, *LINKS, *words)) as federation:
        return list(federation), federation.fingerprint()["models"]


@pytest.mark.parametrize(
    ("method", "cohort", "up", "down"),
    [("fedavg", 8, 1e5, 2e5), ("permfl", 4, 5e4, 4e5)],  # two teams of four
)
def test_equal_calls_of_a_cohort_take_as_many_times_as_long_to_transfer_as_they_are(method, cohort, up, down):
    alone, models = recorded(method, "delays=none", "rounds=2")
    records, same = recorded(method, "delays=none", "rounds=2", SHARED[method])
    assert models == same
    for record, apart in zip(records, alone, strict=True):
        calls = record.calls
        np.testing.assert_allclose(calls.download_s, cohort * calls.bytes_down / up)
        np.testing.assert_allclose(calls.upload_s, cohort * calls.bytes_up / down)
        np.testing.assert_allclose(calls.total_s, cohort * apart.calls.total_s)
        one_after_the_other = len(set(calls.team_round.tolist()))
        longer_s = one_after_the_other * (cohort - 1) * apart.calls.total_s[0]
        assert record.round_s == pytest.approx(apart.round_s + longer_s)


@pytest.mark.parametrize("mode", ["sync", "deadline"])
def test_rounds_that_are_timed_share_the_link_as_those_that_train(mode):
    words = ("delays=pareto", "delays.dropout=0.3", f"clients.mode={mode}", "clients.deadline_s=40", "rounds=6")
    config = small("fedavg", *LINKS, *words, SHARED["fedavg"])
    with Federation(config) as federation:
        timed, trained = TimedRounds(build_world(config)), TrainingRounds(federation)
        for _ in range(6):
            ours, theirs = timed.play(None), trained.play(None)
            assert ours.round_s == theirs.round_s
            for name in ("client", "status", "total_s", "download_s", "upload_s"):
                assert getattr(ours.calls, name).tolist() == getattr(theirs.calls, name).tolist()


@pytest.mark.parametrize("method", SHARED)
def test_links_without_a_limit_are_not_shared(method):
    with pytest.raises(ConfigError, match="both rates are unlimited, and there is nothing to share"):
        small(method, SHARED[method])


def replied(team, bytes_down, rounds_s, bytes_up):
    return TeamReply(team, None, 1, 0.0, [], CallTable.of([]), bytes_down, bytes_up, rounds_s=rounds_s)


def test_teams_share_the_global_servers_link_by_hand():
    # It sends 40 bytes/s and receives 20; a team receives 30 and sends 20 at most. From 1 s on each receives 20 a
    # second: team 4 has its 20 bytes at 2, and team 7, which then gets 30 a second, the other 60 of its 80 at 4. Team 4
    # makes its rounds until 5 and sends alone until 6, when team 7 has made its own. 10 of its 30 bytes are left, which
    # it sends at 10 a second until 7; team 7 has sent as many by then, and its last 10 take half a second.
    own = Profile("team server", down_bytes_per_s=30.0, up_bytes_per_s=20.0, latency_s=1.0)
    made = world(team_profile=own, server_profile=Profile("server", down_bytes_per_s=20.0, up_bytes_per_s=40.0))
    link = TeamLink(made)
    calls = [TeamCall(4, 1, [], torch.zeros(5)), TeamCall(7, 1, [], torch.zeros(20))]
    assert link.downloads_s(calls) == pytest.approx([1.0, 3.0])
    replies = together_on(link, [replied(4, 20, 3.0, 30), replied(7, 80, 2.0, 20)], 0.0)
    assert [reply.seconds for reply in replies] == pytest.approx([7.0, 7.5])


RATES = (2.5e5, 2e5)  # from the global server to teams, and back
OWN = (2e5, 1.5e5)  # what a team receives and sends, at most
CROWDED = (
    "clients.count=12",
    "teams.count=4",
    "teams.participation=0.75",
    "delays.server_links=shared",
    f"delays.server_up_bytes_per_s={RATES[0]}",
    f"delays.server_down_bytes_per_s={RATES[1]}",
    f"delays.team_down_bytes_per_s={OWN[0]}",
    f"delays.team_up_bytes_per_s={OWN[1]}",
    "delays.team_latency_s=0.3",
    "delays.server_latency_s=0.7",
)


@pytest.mark.parametrize(
    "words",
    [(), ("clients.mode=async", "clients.buffer=2"), ("teams.mode=async",), ("teams.mode=async", "teams.buffer=2")],
    ids=["all wait", "clients go on", "teams go on", "two teams a round"],
)
def test_rounds_of_teams_take_what_a_simulation_of_all_of_them_says(monkeypatch, words):
    made, paid, began_s = [], {}, {}
    rounds, received, calls = TeamServer.rounds, TeamTier.received, ClientTier.calls

    def noted(self, call):
        reply = yield from rounds(self, call)
        if type(self) is TeamServer:  # else it is only priced
            made.append((call, reply))
        return reply

    def taken(self, call, reply, state, staleness=0):
        paid[call.team, call.round] = reply.seconds
        return received(self, call, reply, state, staleness)

    def called(self, children, state, moment):
        began_s.setdefault((self._team, moment.round), moment.virtual_s)
        return calls(self, children, state, moment)

    monkeypatch.setattr(TeamServer, "rounds", noted)
    monkeypatch.setattr(TeamTier, "received", taken)
    monkeypatch.setattr(ClientTier, "calls", called)
    with Federation(small("permfl", *NOISY, *CROWDED, "rounds=8", "evaluation.every=100", *words)) as federation:
        records = list(federation)
        federation.rounds.snapshot()  # so that all calls are made
    alone = [
        Sent(one.team, call.virtual_s, [0.3, one.bytes_down, one.rounds_s, one.bytes_up], OWN, math.inf, [0.0] * 4)
        for call, one in made
    ]
    sent = dict(zip([(call.team, call.round) for call, _ in made], alone, strict=True))
    simulate(sorted(alone, key=lambda one: one.begins_s), RATES)
    assert len(paid) >= 8
    np.testing.assert_allclose(list(paid.values()), [sum(sent[key].spent) for key in paid], rtol=1e-6)
    apart = [0.3 + one.bytes_down / OWN[0] + one.rounds_s + one.bytes_up / OWN[1] for _, one in made]
    shared = [sum(one.spent) for one in alone]
    assert max(np.array(shared) - apart) > 0.1
    if "teams.mode=async" not in words:
        for key, one in sent.items():  # its clients are called once it has received
            assert began_s[key] == pytest.approx(one.begins_s + 0.3 + one.spent[1])
        for record in records:
            waited_s = max(sum(one.spent) for (_, round), one in sent.items() if round == record.round)
            assert record.round_s == pytest.approx(waited_s + 0.7)


def test_teams_that_go_on_share_no_link_where_their_rounds_depend_on_when_they_begin(tmp_path):
    (tmp_path / "on.csv").write_text("client,on_s,off_s\n0,0,5\n")
    trace = f"delays.availability_trace={tmp_path / 'on.csv'}"
    for words in (("clients.mode=async",), (trace,)):
        small("permfl", *CROWDED, *words)
        with pytest.raises(ConfigError, match=r"=shared: with teams\.mode=async teams receive later"):
            small("permfl", *CROWDED, "teams.mode=async", *words)
