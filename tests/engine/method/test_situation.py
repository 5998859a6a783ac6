"""What a call is expected to take, from what was measured before."""

from dataclasses import replace

import numpy as np

from strata.engine.clock.devices import Profile
from strata.engine.clock.shared_links import SharedLink
from strata.engine.method.calls import NO_TEAM
from strata.engine.method.situation import CallCost, Situation


def situation(latency_s, s_per_flop, down, up):
    columns = (np.array(values, np.float64) for values in (latency_s, s_per_flop, down, up))
    return Situation(1, list(range(len(latency_s))), *columns)


def test_seconds_are_latency_and_each_amount_times_its_own_rate():
    known = situation([1.0, 2.0], s_per_flop=[0.5, 0.25], down=[10.0, 20.0], up=[100.0, 200.0])
    seconds = known.seconds([CallCost(bytes_down=3, bytes_up=5, flops=8), CallCost(bytes_down=1, bytes_up=0, flops=4)])
    assert seconds.tolist() == [1 + 3 * 10 + 8 * 0.5 + 5 * 100, 2 + 1 * 20 + 4 * 0.25 + 0]


def test_a_client_that_was_never_measured_has_no_expected_seconds_and_spoils_no_other():
    nan = np.nan
    known = situation([1.0, nan], s_per_flop=[1.0, nan], down=[1.0, nan], up=[1.0, nan])
    seconds = known.seconds([CallCost(1, 1, 1)] * 2)
    assert seconds[0] == 4.0
    assert np.isnan(seconds[1])


def test_where_clients_share_a_link_each_is_in_the_others_way():
    server = Profile("server", down_bytes_per_s=5.0, up_bytes_per_s=10.0)
    link = SharedLink([Profile("fast")] * 2, server, np.array([NO_TEAM] * 2))
    known = replace(situation([0.0, 0.0], s_per_flop=[1.0, 1.0], down=[0.1, 0.1], up=[0.2, 0.2]), link=link)
    # Alone 1 s down, 1 and 2 s computing, 1 s up. Down at half speed until 2; up from 3 and 4: at 4 the first is ready.
    assert known.seconds([CallCost(10, 5, 1), CallCost(10, 5, 2)]).tolist() == [4.0, 5.0]
    # Both compute 1 s: up at half speed.
    assert known.seconds([CallCost(10, 5, 1)] * 2).tolist() == [5.0, 5.0]


def test_nobody_takes_no_seconds():
    assert situation([], [], [], []).seconds([]).shape == (0,)
