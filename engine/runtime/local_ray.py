"""A local Ray without the processes that no run needs."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import ray
from ray._private.node import Node

NEEDLESS = ("start_monitor", "start_log_monitor", "start_api_server")
"""What Ray's head node starts for clusters that grow, drivers that show their workers' output, and the dashboard."""
WHOLE = {name: getattr(Node, name) for name in NEEDLESS if hasattr(Node, name)}


def start(cpus: int, gpus: int) -> None:
    """Start a local Ray; ``cpus`` and ``gpus`` it may use, 0: those found.

    Raises:
        Exception: what :func:`ray.init` raises.
    """
    with _lean():
        ray.init(
            address="local",
            include_dashboard=False,
            num_cpus=cpus or None,
            num_gpus=gpus or None,
            log_to_driver=False,
            logging_level=logging.ERROR,
        )


@contextmanager
def _lean() -> Iterator[None]:
    """Ray starts none of :data:`NEEDLESS` meanwhile, for which it has no setting: three Python processes, 160 MB.

    A Ray that names them otherwise starts them, as it would without this.
    """
    for name in WHOLE:
        setattr(Node, name, _nothing)
    try:
        yield
    finally:
        for name, begin in WHOLE.items():
            setattr(Node, name, begin)


def _nothing(node: Node, **settings: object) -> None:
    """Stands for what is not started."""
