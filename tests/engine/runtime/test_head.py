"""Noticing that a cluster's head is gone."""

import socket
import threading

import pytest

from strata.engine.runtime import head
from strata.engine.runtime.head import HeadWatch


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr(head, "PAUSE_S", 0.05)
    listening = socket.create_server(("127.0.0.1", 0))
    yield listening
    listening.close()


def watch(server):
    lost = threading.Event()
    host, port = server.getsockname()
    return HeadWatch(f"{host}:{port}", lost.set), lost


def test_a_head_that_ends_is_noticed(server):
    watching, lost = watch(server)
    link, _ = server.accept()
    assert not lost.wait(0.2)
    server.close()
    link.close()
    assert lost.wait(5)
    watching.stop()


def test_a_head_that_hangs_up_on_the_silent_is_still_there(server):
    watching, lost = watch(server)
    for _ in range(3):
        link, _ = server.accept()
        link.close()
    link, _ = server.accept()
    assert not lost.is_set()
    watching.stop()
    link.close()


def test_nothing_is_lost_once_nobody_watches(server):
    watching, lost = watch(server)
    link, _ = server.accept()
    watching.stop()
    server.close()
    assert not lost.wait(0.5)
    link.close()


def test_a_head_that_cannot_be_reached_from_here_is_not_watched(server):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        host, port = free.getsockname()
    lost = threading.Event()
    HeadWatch(f"{host}:{port}", lost.set)
    assert not lost.wait(0.5)
