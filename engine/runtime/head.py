"""Noticing at once that a cluster's head is gone, for which Ray itself takes a minute, and then ends the process."""

import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress

TRIES = 3
PAUSE_S = 1.0
CONNECT_S = 5.0
KEEPALIVE = {"TCP_KEEPIDLE": 5, "TCP_KEEPINTVL": 2, "TCP_KEEPCNT": 3}
"""Seconds of silence before the other machine is asked whether it is there, between questions, and how many."""


class HeadWatch:
    """Holds a connection to a cluster's head, which the system closes when that ends, or when its machine is gone."""

    def __init__(self, address: str, lost: Callable[[], None]) -> None:
        """Watch ``HOST:PORT`` from a thread of its own; ``lost`` is called there, once."""
        host, _, port = address.rpartition(":")
        self._place, self._lost = (host.strip("[]"), int(port)), lost
        self._over = threading.Event()
        self._link: socket.socket | None = None
        threading.Thread(target=self._watch, name="head watch", daemon=True).start()

    def stop(self) -> None:
        """Watch no longer; stopping again does nothing."""
        self._over.set()
        if self._link is not None:
            with suppress(OSError):
                self._link.shutdown(socket.SHUT_RDWR)

    def _watch(self) -> None:
        link = self._connected()
        if link is None:  # it may be reached in another way, through a proxy
            return
        while link is not None:
            self._link = link
            with link, suppress(OSError):
                while not self._over.is_set() and link.recv(4096):  # until it is closed, also by one that hears nothing
                    pass
            if self._over.is_set():
                return
            link = self._connected()
        if not self._over.is_set():
            self._lost()

    def _connected(self) -> socket.socket | None:
        for number in range(TRIES):
            if number:
                time.sleep(PAUSE_S)
            with suppress(OSError):
                link = socket.create_connection(self._place, CONNECT_S)
                link.settimeout(None)
                link.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
                for name, value in KEEPALIVE.items():
                    if hasattr(socket, name):
                        link.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
                return link
        return None
