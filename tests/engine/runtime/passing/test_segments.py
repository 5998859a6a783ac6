"""Memory that processes of one machine see together."""

import gc
import os
import subprocess
import sys

import numpy as np
import pytest

from strata.engine.errors import ClusterError
from strata.engine.runtime.passing import segments
from strata.engine.runtime.passing.segments import ALIGNED, IDLE, MOST_LENT, MOST_SEGMENTS, Loan, Segments, is_there


@pytest.fixture
def lender():
    """Segments of this process; those that borrow of it have their own."""
    own = Segments()
    yield own
    own.forget()


def view(*values):
    return memoryview(np.array(values, np.float64)).cast("B")


def values(buffer):
    return np.frombuffer(buffer, np.float64).tolist()


def test_buffers_are_read_where_they_were_written_and_only_read(lender):
    lending = lender.lend([view(1, 2, 3), memoryview(b""), view(4)])
    first, empty, last = Segments().borrow(lending.loan())
    assert (values(first), bytes(empty), values(last)) == ([1, 2, 3], b"", [4])
    assert first.readonly
    assert last.readonly
    addresses = [np.frombuffer(buffer, np.uint8).ctypes.data for buffer in (first, last)]
    assert [address % ALIGNED for address in addresses] == [0, 0]


def test_a_segment_is_used_again_once_all_have_returned_it_and_no_more_are_lent_it(lender):
    reader = Segments()
    lending = lender.lend([view(1)])
    loans = [lending.loan(), lending.loan()]

    def name_of_next():
        return lender.lend([view(2)]).loan().name

    taken = {loans[0].name}
    (buffer,) = reader.borrow(loans[0])
    array = np.frombuffer(buffer)
    taken.add(name_of_next())
    assert len(taken) == 2  # the second has not read it
    reader.borrow(loans[1])
    del buffer
    assert name_of_next() not in taken  # the first reads it still
    del array
    assert name_of_next() not in taken  # there may be a third
    del lending
    assert name_of_next() in loans[0].name
    assert values(reader.borrow(lender.lend([view(3)]).loan())[0]) == [3]


def test_a_loan_is_read_once(lender):
    lending = lender.lend([view(1)])
    loan = lending.loan()
    buffers = Segments().borrow(loan)
    with pytest.raises(ClusterError, match="read before"):  # and is being read
        Segments().borrow(loan)
    del buffers
    with pytest.raises(ClusterError, match="read before"):
        Segments().borrow(loan)
    del lending
    renewed = lender.lend([view(2)])
    assert renewed.loan().name == loan.name
    with pytest.raises(ClusterError, match="read before"):  # though what lies there now was not
        Segments().borrow(loan)


def test_what_nobody_returns_takes_no_more_than_a_bounded_share(lender, monkeypatch):
    held = [lender.lend([view(n)]) for n in range(MOST_SEGMENTS)]
    assert None not in held
    assert lender.lend([view(0)]) is None
    held[0] = None
    assert lender.lend([view(0)]) is not None
    monkeypatch.setattr(segments, "MOST_KEPT", 3 << 20)
    small = Segments()
    first = small.lend([memoryview(bytes(2 << 20))])
    assert small.lend([memoryview(bytes(2 << 20))]) is None
    del first
    larger = small.lend([memoryview(bytes(3 << 20))])  # in place of one that is free and too small
    assert larger is not None
    assert small.lend([view(0)]) is None
    small.forget()


def test_no_more_readers_are_lent_a_segment_than_its_header_counts(lender):
    lending = lender.lend([view(1)])
    loans = [lending.loan() for _ in range(segments.HEADER - segments.TURN + 1)]
    assert loans[-1] is None
    assert values(Segments().borrow(loans[-2])[0]) == [1]


def test_what_is_too_large_and_what_the_system_refuses_is_not_lent(lender, monkeypatch):
    assert lender.lend([memoryview(bytes(MOST_LENT + 1))]) is None

    def none_left(name):
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(os, "memfd_create", none_left)
    assert lender.lend([view(1)]) is None
    monkeypatch.delattr(os, "memfd_create")  # as on other systems than Linux
    assert lender.lend([view(1)]) is None
    assert lender.sign is None


def test_a_segment_that_is_not_needed_for_long_is_given_back(lender):
    large = lender.lend([memoryview(bytes(1 << 20))]).loan()
    Segments().borrow(large)
    assert is_there(large)  # free, and too large for what follows
    lending = lender.lend([view(1)])
    for _ in range(IDLE + 2):
        busy = lending  # the one before is free once there is a new one
        lending = lender.lend([view(1)])
    assert busy is not None
    assert not is_there(large)
    assert is_there(lending.loan())


def test_what_was_given_back_goes_out_of_view_with_the_next_that_comes_into_it(lender):
    reader = Segments()
    reader.borrow(lender.lend([view(1)]).loan())
    assert len(reader._in_view) == 1
    lender.forget()
    assert values(reader.borrow(lender.lend([view(2)]).loan())[0]) == [2]
    assert len(reader._in_view) == 1


def test_a_sign_is_seen_as_long_as_its_process_has_not_forgotten_it(lender):
    sign = lender.sign
    assert lender.sign == sign
    assert is_there(sign)
    lender.forget()
    assert not is_there(sign)
    assert is_there(lender.sign)


def test_a_file_of_another_process_that_has_the_number_is_not_taken_for_a_segment(lender, tmp_path):
    loan = lender.lend([view(1)]).loan()
    assert not is_there(loan._replace(name="strata-0"))
    assert not is_there(loan._replace(process=1))
    with (tmp_path / "private").open("w+b") as other:
        taken = loan._replace(file=other.fileno())
        assert not is_there(taken)
        with pytest.raises(ClusterError, match=r"process \d+ ended before what it said was read"):
            Segments().borrow(taken)


LENDER = """
import sys
from strata.engine.runtime.passing.segments import Segments
segments = Segments()
lending = segments.lend([memoryview(b"first"), memoryview(b"second")])
for _ in range(2):
    print(*lending.loan()[:-1], flush=True)
sys.stdin.read(1)
"""


def loan_of(words):
    process, file, name, *numbers = words.split()
    return Loan(int(process), int(file), name, *map(int, numbers), (5, 6))


def test_another_process_lends_and_what_is_in_view_outlives_it():
    reader = Segments()
    with subprocess.Popen([sys.executable, "-c", LENDER], stdin=-1, stdout=-1, text=True) as lender:
        loans = [loan_of(lender.stdout.readline()) for _ in range(2)]
        buffers = reader.borrow(loans[0])
        lender.kill()
    gc.collect()
    assert list(map(bytes, buffers)) == [b"first", b"second"]
    assert list(map(bytes, reader.borrow(loans[1]))) == [b"first", b"second"]
    with pytest.raises(ClusterError, match=f"process {lender.pid} ended before what it said was read"):
        Segments().borrow(loans[1])


def test_what_a_killed_process_had_lent_leaves_nothing_behind():
    with subprocess.Popen([sys.executable, "-c", LENDER], stdin=-1, stdout=-1, text=True) as lender:
        loan = loan_of(lender.stdout.readline())
        assert is_there(loan)
        assert not any(loan.name in name for name in os.listdir("/dev/shm"))
        lender.kill()
    assert not is_there(loan)
