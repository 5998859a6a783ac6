"""Links that are shared where servers do not wait, or clients go off: by hand, and against a simulation of its own."""

import math

import numpy as np
import pytest

from strata.engine.build import build_world
from strata.engine.clock.devices import Profile
from strata.engine.clock.presence import Presence
from strata.engine.federation import Federation
from strata.engine.method.calls import NO_TEAM, OK, Call
from strata.engine.rounds import clients
from strata.engine.rounds.accounts import charge
from strata.engine.rounds.buffered import Buffered
from strata.engine.rounds.flying.links import ClientLink
from strata.engine.rounds.flying.shared_flights import SharedFlights
from strata.engine.rounds.pools import ClientCall, ClientReply
from strata.engine.rounds.schedules import Moment
from strata.engine.rounds.timed import TimedRounds
from strata.engine.seeding import derive
from strata.engine.tree import fingerprint
from strata.envs.opening import TrainingRounds
from tests.helpers.arithmetic.processor_sharing import Sent, simulate
from tests.helpers.calls import call_rows
from tests.helpers.children import Toys
from tests.helpers.small import HALF, NOISY, played, resume_in_flight, small
from tests.helpers.worlds import world

PHASES = ("latency_s", "download_s", "compute_s", "upload_s")


class Callers(Toys):
    """Clients whose calls take given seconds by phase with the link to themselves; ``priced``: as known before."""

    def __init__(self, phases, priced=None):
        super().__init__(*(self.reply(client, phases) for client in phases))
        self.known = priced or phases

    @staticmethod
    def reply(client, phases):
        call = Call(client, NO_TEAM, 1, "any", OK, 10, 10, 1, 1, 1, *phases[client], 0.0, {})
        return ClientReply(client, "up", call)

    def calls(self, children, state, moment):
        return [ClientCall(child, NO_TEAM, moment.round, 1, {}, down=tuple(state)) for child in children]

    def priced(self, call):
        return self.reply(call.client, self.known)


TWO = {0: (0.0, 2.0, 1.0, 1.0), 1: (0.0, 1.0, 0.0, 2.5)}
LINK = Profile("server", down_bytes_per_s=10.0, up_bytes_per_s=10.0)


def shared_world(**changes):
    return world(profiles=[Profile("fast")] * 3, server_profile=LINK, server_shares=True, **changes)


def steps(made, toys, rounds):
    """Who counted, and the virtual seconds, of some steps with a buffer of one; and what each call came to by phase."""
    schedule, state, told = Buffered(1, flights=SharedFlights(ClientLink(made, NO_TEAM))), [], []
    for round in range(1, rounds + 1):
        step = schedule.step(toys, state, Moment(round, 1))
        state = step.state
        phases = {reply.client: tuple(getattr(reply.call, name) for name in PHASES) for reply in step.replies}
        told.append(([up.sender for up in step.ups], step.seconds, phases))
    return told


@pytest.mark.parametrize(
    "priced", [TWO, {0: (0.0, 2.0, 0.0, 1.0), 1: (0.0, 1.0, 0.0, 1.0)}], ids=["as priced", "longer than priced"]
)
def test_calls_that_come_and_go_by_hand(priced):
    # Both download from 0, at half speed: 1 until 2, when 0 has 1 s left, which it does alone until 3. 1 uploads alone
    # from 2 and has 0.5 s left at 4, when 0 has computed and uploads too. At half speed 1 ends at 5; 0 has 0.5 s left.
    # From 5 on 1, called anew, downloads alone, and 0 uploads alone until 5.5. From then on 0, called anew, downloads
    # as well: at half speed 1, with 0.5 s left, until 6.5. It uploads alone until 9, as 0 downloads until 8 and
    # computes until 9.
    first, second, third = steps(shared_world(), Callers(TWO, priced), 3)
    assert first == ([1], 5.0, {1: (0.0, 2.0, 0.0, 3.0)})
    assert second == ([0], 0.5, {0: (0.0, 3.0, 1.0, 1.5)})
    assert third == ([1], 3.5, {1: (0.0, 1.5, 0.0, 2.5)})


def test_a_client_that_goes_off_leaves_the_link_to_the_others_by_hand():
    # As above until 4. 0 goes off at 4.5, when it has uploaded 0.25 s, and 1 has 0.25 s left, for itself.
    there = Presence(np.array([0, 1, 2]), np.array([0.0, 0.0]), np.array([4.5, math.inf]))
    (step,) = steps(shared_world(presence=there), Callers(TWO), 1)
    assert step == ([1], 4.75, {0: (0.0, 3.0, 1.0, 0.5), 1: (0.0, 2.0, 0.0, 2.75)})


PERIOD = 9.0


def traced(folder):
    path = folder / "on.csv"
    lines = [f"{client},{on},{on + 3 + client / 4}" for client, on in enumerate((0.0, 3.5, 0.25, 1.0, 5.0))]
    path.write_text("\n".join(["client,on_s,off_s", *lines]) + "\n", encoding="utf8")
    return f"delays.availability_trace={path}", f"delays.availability_period_s={PERIOD}", "delays.availability=1"


RATES = (2.5e5, 2e5)  # from server to clients, and back
FLAT = (
    "delays.server_links=shared",
    f"delays.server_up_bytes_per_s={RATES[0]}",
    f"delays.server_down_bytes_per_s={RATES[1]}",
)
TEAM = tuple(word.replace("server_", "team_") for word in FLAT)
ASYNC = ("clients.mode=async", "clients.concurrency=5", "clients.buffer=2")
MODES = {"sync": HALF, "async": ASYNC}


def charged(monkeypatch):
    """What is charged from now on as if the link were not shared: the calls, and what they came to."""
    made = []

    def noted(world, call, *rest):
        made.append((call, charge(world, call, *rest)))
        return made[-1][1]

    monkeypatch.setattr(clients, "charge", noted)
    return made


def check_all(federation, calls, made, team, trace):
    """Hold the calls of a server's clients, in tables, against a simulation from what each was charged alone.

    Gives how many were lost by going off, and how many were compared.
    """
    profiles, presence = federation.world.profiles, federation.world.presence
    sent = []
    for call, alone in [(call, alone) for call, alone in made if call.team == team]:
        profile = profiles[call.client]
        own = profile.down_bytes_per_s, profile.up_bytes_per_s
        least = [min(mine, rate) for mine, rate in zip(own, RATES, strict=True)]
        left = [alone.latency_s, alone.download_s * least[0], alone.compute_s, alone.upload_s * least[1]]
        off_s = call.virtual_s + presence.off_after_s(call.client, call.virtual_s) if trace else math.inf
        sent.append(Sent(call.client, call.virtual_s, left, own, off_s, [0.0] * 4))
    sent = simulate(sorted(sent, key=lambda call: call.begins_s), RATES)
    went_off = compared = 0
    for client in range(len(profiles)):
        tables = [table.where((table.client == client) & (table.team == team)) for table in calls]
        ours = [row for table in tables for row in call_rows(table)]
        theirs = [call for call in sent if call.client == client]
        assert len(theirs) >= len(ours)  # others are on their way
        compared += len(ours)
        for row, call in zip(ours, theirs, strict=False):
            np.testing.assert_allclose([getattr(row, name) for name in PHASES], call.spent, rtol=1e-6, atol=1e-6)
            if call.phase < 4:
                assert row.status == "lost"
                went_off += 1
    return went_off, compared


@pytest.mark.parametrize("trace", [False, True], ids=["there", "traced"])
@pytest.mark.parametrize(
    ("method", "mode"),
    [("fedavg", "sync"), ("fedavg", "async"), ("fedkd", "async")],  # what FedKD's clients send is learnt
)
def test_calls_take_what_a_simulation_of_all_of_them_says(tmp_path, monkeypatch, method, mode, trace):
    made = charged(monkeypatch)
    words = (*NOISY, *MODES[mode], *FLAT, "delays.server_latency_s=0.7", "rounds=12", "evaluation.every=100")
    words = (*words, *traced(tmp_path)) if trace else words
    with Federation(small(method, *words, "delays.latency_s=1")) as federation:
        calls = [record.calls for record in federation]
        federation.rounds.snapshot()  # so that all calls are made
        lost, every = check_all(federation, calls, made, NO_TEAM, trace)
    assert every > 15
    assert (lost > 0) == trace


@pytest.mark.parametrize("teams", [(), ("teams.mode=async",)], ids=["teams wait", "nobody waits"])
def test_calls_within_teams_take_what_a_simulation_of_all_of_them_says(tmp_path, monkeypatch, teams):
    made = charged(monkeypatch)
    words = (*NOISY, *ASYNC, *TEAM, *teams, *traced(tmp_path), "delays.team_latency_s=0.4", "rounds=10")
    with Federation(small("permfl", *words, "clients.concurrency=3", "delays.latency_s=1")) as federation:
        calls = [record.calls for record in federation]
        federation.rounds.snapshot()
        found = [check_all(federation, calls, made, team, True) for team in (0, 1)]
    assert all(lost > 0 and every > 15 for lost, every in found)


@pytest.mark.parametrize("trace", [False, True], ids=["there", "traced"])
@pytest.mark.parametrize("method", ["lg_fedavg", pytest.param("fedkd", marks=pytest.mark.exhaustive)])
def test_a_buffer_of_the_whole_cohort_is_a_synchronous_round(tmp_path, method, trace):
    words = (*NOISY, *HALF, *FLAT, "rounds=4", "delays.server_latency_s=0.25", "delays.latency_s=1")
    words = (*words, *traced(tmp_path)) if trace else words
    _, waited, theirs = played(method, *words)
    _, taken, ours = played(method, *words, "clients.mode=async", "clients.buffer=4", "clients.staleness=polynomial")
    assert (ours["models"], ours["clock"]) == (theirs["models"], theirs["clock"])
    assert [record.calls for record in taken] == [record.calls for record in waited]
    assert sum(record.lost for record in taken) > 0


@pytest.mark.parametrize("mode", MODES)
def test_rounds_that_are_timed_are_those_that_train(tmp_path, mode):
    config = small("fedavg", *NOISY, *MODES[mode], *FLAT, *traced(tmp_path), "delays.latency_s=1", "rounds=10")
    with Federation(config) as federation:
        timed, trained = TimedRounds(build_world(config)), TrainingRounds(federation)
        lost = 0
        for _ in range(10):
            ours, theirs = timed.play(None), trained.play(None)
            assert ours.round_s == theirs.round_s
            for name in ("client", "status", "bytes_up", *PHASES):
                assert getattr(ours.calls, name).tolist() == getattr(theirs.calls, name).tolist()
            lost += int(ours.calls.lost.sum())
    assert lost > 0


@pytest.mark.parametrize("mode", MODES)
def test_a_run_is_resumed_to_the_bit(tmp_path, mode):
    words = (*NOISY, *MODES[mode], *FLAT, *traced(tmp_path), "delays.server_latency_s=0.7", "delays.latency_s=1")
    config = small("lg_fedavg", *words, "clients.buffer=1", "rounds=10")

    def in_flight(saved):
        return mode == "sync" or (len(saved.aloft.calls) > 1 and saved.aloft.behind_s == 0.7)

    resume_in_flight(config, tmp_path / "saved", 5, in_flight)


@pytest.mark.parametrize("mode", [(), ("clients.mode=deadline", "clients.deadline_s=1e3")], ids=["sync", "deadline"])
def test_who_goes_off_because_others_transfer_is_lost_and_stays_what_it_was(tmp_path, mode):
    words = ("delays=none", *FLAT, *mode, "agents.policy=none", "rounds=1", "evaluation.every=100")
    with Federation(small("lg_fedavg", *words)) as federation:
        calls = federation.run_round().calls
        kept = federation.rounds.snapshot().clients
    assert (calls.status == OK).all()
    assert len(kept) == 8
    # Half of them stay until just before the last ends, when they are the only ones that transfer.
    (tmp_path / "on.csv").write_text(f"client,on_s,off_s\n0,0,{calls.total_s.max() - 1e-3}\n1,0,inf\n")
    trace = f"delays.availability_trace={tmp_path / 'on.csv'}"
    with Federation(small("lg_fedavg", *words, trace)) as federation:
        cut = federation.run_round().calls
        held, made = federation.rounds.snapshot().clients, federation.world
    lost = cut.client[cut.lost].tolist()
    assert 0 < len(lost) < 8
    assert all(client % 2 == 0 for client in lost)
    for client, state in held.items():
        first = made.algorithm.init_client(made.infos[client], derive(made.seed, "client", client))
        assert fingerprint(state) == fingerprint(first if client in lost else kept[client])
    assert (cut.bytes_up[cut.lost] == 0).all()
    alone = [word for word in words if "links" not in word]
    with Federation(small("lg_fedavg", *alone, trace)) as federation:  # each by itself is there until its end
        assert not federation.run_round().calls.lost.any()
