"""What a client call is charged: closed forms on clients and links without chance."""

from dataclasses import replace
from math import isnan

import numpy as np
import pytest

from strata.engine.clock.presence import Presence
from strata.engine.method.calls import LOST, NO_TEAM, OK, PROBE
from strata.engine.method.requests import Work
from strata.engine.rounds.accounts import charge
from strata.engine.rounds.pools import ClientCall
from tests.helpers.worlds import PROFILES, world

WORK = Work(flops=300, samples=40, steps=4, loss_sum=10.0)
DROPPING = world(profiles=[replace(PROFILES[0], dropout=1.0)] * 3)


def charged(made, team=NO_TEAM, round=2, work=WORK, **told):
    return charge(made, ClientCall(0, team, round, 5, {}, **told), 100, 60, work, {"found": 1.5})


def test_a_call_is_charged_latency_transfers_and_computing():
    call = charged(world())  # the server's own link is no limit; the phone has 50 bytes/s down, 20 up, 100 FLOP/s
    assert (call.latency_s, call.download_s, call.compute_s, call.upload_s) == (0.5, 100 / 50, 300 / 100, 60 / 20)
    assert call.total_s == 0.5 + 2 + 3 + 3
    assert (call.client, call.team, call.team_round, call.device, call.status) == (0, NO_TEAM, 5, "phone", OK)
    assert (call.bytes_down, call.bytes_up, call.flops, call.samples, call.steps) == (100, 60, 300, 40, 4)
    assert (call.loss, call.metrics) == (10.0 / 4, {"found": 1.5})


def test_in_a_team_its_servers_link_is_the_other_end():
    call = charged(world(), team=4)  # it sends 25 bytes/s and receives 10, which is less than the phone's 50 and 20
    assert (call.download_s, call.upload_s) == (100 / 25, 60 / 10)


def test_a_lost_client_uploads_nothing_and_its_seconds_end_on_the_way():
    calls = [charged(DROPPING, round=round) for round in range(1, 101)]
    assert {call.status for call in calls} == {LOST}
    assert {call.bytes_up for call in calls} == {0}
    assert {call.bytes_down for call in calls} == {100}
    assert all(isnan(call.loss) for call in calls)
    assert {(call.flops, call.steps, call.metrics["found"]) for call in calls} == {(300, 4, 1.5)}
    # When it is lost is U(0, 1) of the 8.5 s that the call would have taken: mean ½, deviation √(1/12) / √100.
    shares = [call.total_s / 8.5 for call in calls]
    assert 0 <= min(shares) < 0.1
    assert 0.9 < max(shares) <= 1
    assert sum(shares) / 100 == pytest.approx(0.5, abs=4 * (1 / 12) ** 0.5 / 10)


def test_phases_of_a_lost_call_fill_up_in_their_order():
    whole = (0.5, 2.0, 3.0, 3.0)
    for round in range(1, 21):
        call = charged(DROPPING, round=round)
        phases, left = (call.latency_s, call.download_s, call.compute_s, call.upload_s), call.total_s
        for phase, full in zip(phases, whole, strict=True):
            assert phase == pytest.approx(min(full, left))
            left -= phase


def there_until(off_s, made=None):
    """A world whose clients are there from 10 s on."""
    return replace(made or world(), presence=Presence(np.array([0, 1]), np.array([10.0]), np.array([off_s])))


def test_a_client_that_goes_off_before_its_call_ends_is_lost_at_that_instant():
    lost = charged(there_until(16.0), virtual_s=12.0)  # after 4 of the 8.5 s
    assert (lost.latency_s, lost.download_s, lost.compute_s, lost.upload_s) == (0.5, 2, 1.5, 0)
    assert (lost.status, lost.bytes_down, lost.bytes_up) == (LOST, 100, 0)
    assert isnan(lost.loss)
    for off_s in (20.5, 1e6):  # at the end of its call it has sent everything
        assert charged(there_until(off_s), virtual_s=12.0) == charged(world())
    assert charged(there_until(20.4), virtual_s=12.0).status == LOST
    assert charged(there_until(16.0), virtual_s=12.0, probe=True).total_s == 8.5


def test_a_client_is_lost_by_what_comes_first_dropping_out_or_going_off():
    for round in range(1, 21):
        dropped_s = charged(DROPPING, round=round).total_s
        found = charged(there_until(16.0, DROPPING), round=round, virtual_s=12.0)
        assert found.status == LOST
        assert found.total_s == pytest.approx(min(dropped_s, 4.0))


def test_a_probe_is_never_lost():
    call = charged(DROPPING, probe=True)
    assert (call.status, call.total_s, call.loss) == (PROBE, 8.5, 2.5)


def test_who_trained_nothing_has_no_loss():
    assert isnan(charged(world(), work=Work(flops=300)).loss)
    assert charged(world(), work=Work(steps=1)).loss == 0.0
