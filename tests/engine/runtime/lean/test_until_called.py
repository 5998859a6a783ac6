"""A process that stands for another until it is called: real processes, and a real call."""

import socket
import subprocess
import sys
import time

import pytest

from strata.engine.runtime.lean import until_called

ANSWERS = """
import socket, sys
port = int(sys.argv[-1].removeprefix("--runtime-env-agent-port="))
with socket.create_server(("127.0.0.1", port)) as listening:
    print("there", flush=True)
    call, _ = listening.accept()
    call.sendall(b"here " + sys.argv[1].encode())
    call.close()
"""


@pytest.fixture
def stand_in(tmp_path):
    """A process that stands for one that answers; it, and its port."""
    written = tmp_path / "port"
    command = [sys.executable, "-I", "-S", until_called.__file__, "127.0.0.1", str(written)]
    command += [sys.executable, "-c", ANSWERS, "with its words"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        while not written.exists():
            assert process.poll() is None
            time.sleep(0.01)
        yield process, int(written.read_text())
        process.kill()


def test_it_becomes_the_other_with_the_port_that_was_called(stand_in):
    process, port = stand_in
    assert process.poll() is None
    socket.create_connection(("127.0.0.1", port)).close()
    assert process.stdout.readline() == "there\n"
    with socket.create_connection(("127.0.0.1", port), timeout=20) as call:
        assert call.recv(99) == b"here with its words"
    assert process.wait(20) == 0


def test_it_ends_when_whoever_started_it_is_gone(stand_in):
    process, port = stand_in
    process.stdin.close()
    assert process.wait(20) == 0
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port))


def test_what_is_written_to_it_is_nothing_to_it(stand_in):
    process, port = stand_in
    process.stdin.write("a line\n")
    process.stdin.flush()
    time.sleep(0.3)
    assert process.poll() is None
    socket.create_connection(("127.0.0.1", port)).close()
    assert process.stdout.readline() == "there\n"
