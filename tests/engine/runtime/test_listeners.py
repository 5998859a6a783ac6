"""An address at which something else than Ray listens is refused within seconds, with what it said."""

import socket
import threading
import time
from contextlib import contextmanager

import pytest

from strata.engine.config.schema import RayConfig
from strata.engine.errors import ClusterError
from strata.engine.runtime import joining


@contextmanager
def listening(answer):
    """The port of a server on this machine; ``answer`` is given each connection."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve():
            try:
                while True:
                    link, _ = server.accept()
                    with link:
                        answer(link)
            except OSError:  # closed
                return

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)
    thread.join(5)


def web(link):
    link.recv(4096)
    link.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")


def silent(link):
    while link.recv(4096):
        pass


@pytest.mark.parametrize("scheme", ["", "ray://"])
@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (web, r"what listens there is no Ray: it answers b'HTTP/1\.1 '"),
        (silent, r"something listens there, and has said nothing within 0\.5 s"),
        (lambda link: None, r"(what listens there is no Ray: it answers b''|Connection reset by peer)"),
    ],
)
def test_what_is_no_ray_is_refused_at_once(monkeypatch, scheme, answer, says):
    monkeypatch.setattr(joining, "CONNECT_S", 0.5)
    began = time.monotonic()
    with listening(answer) as port, pytest.raises(ClusterError, match=says):
        joining.join(RayConfig(address=f"{scheme}127.0.0.1:{port}"), [], print)
    assert time.monotonic() - began < 10


def test_a_port_that_is_none_is_refused():
    with pytest.raises(ClusterError, match=r"127\.0\.0\.1:99999: no Ray cluster answers there"):
        joining.join(RayConfig(address="127.0.0.1:99999"), [], print)


def test_a_server_of_ray_is_greeted():
    """What a server of gRPC says first: an empty frame of settings, RFC 9113, 6.5."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(bytes([0, 0, 0, 4, 0, 0, 0, 0, 0]))
        joining._greet(ours)
        assert theirs.recv(4096).startswith(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")


@pytest.mark.parametrize(
    ("error", "says"), [(RuntimeError(), "RuntimeError"), (RuntimeError("No token.\nMore"), "No token")]
)
def test_what_ray_refuses_is_said_even_if_ray_says_nothing(monkeypatch, error, says):
    def init(**given):
        raise error

    monkeypatch.setattr(joining.ray, "init", init)
    with (
        listening(lambda link: link.sendall(bytes([0, 0, 0, 4, 0, 0, 0, 0, 0]))) as port,
        pytest.raises(ClusterError, match=rf"no Ray cluster answers there: {says}\. .* give this machine its token"),
    ):
        joining.join(RayConfig(address=f"127.0.0.1:{port}"), [], print)
