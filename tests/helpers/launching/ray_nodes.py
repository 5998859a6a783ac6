"""Ray clusters of `ray start` on this machine, with a token of their own: what a launch file starts elsewhere."""

import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

RAY = str(Path(sys.executable).with_name("ray"))
STRATA = [sys.executable, "-m", "strata.cluster.cli"]


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


class Nodes:
    """A cluster: its address, and the environment of whoever may use it."""

    def __init__(self, folder):
        self.folder = Path(folder)
        token = self.folder / "token"
        token.write_text(secrets.token_hex(32))
        plain = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
        self.environment = {**plain, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token)}
        self.address = f"127.0.0.1:{free_port()}"
        self._started = []

    def start_head(self, **environment):
        port = self.address.partition(":")[2]
        where = "--node-ip-address=127.0.0.1", f"--port={port}", f"--temp-dir={self.folder}"
        self._start("--head", *where, "--include-dashboard=false", "--no-monitor", environment)

    def start_worker(self, ip="127.0.0.1", **environment):
        self._start(f"--address={self.address}", f"--node-ip-address={ip}", environment)

    def _start(self, *words):
        *words, environment = words
        lean = "--disable-usage-stats", "--include-log-monitor=false"
        command = [RAY, "start", *words, "--num-cpus=2", "--num-gpus=0", *lean, "--block"]
        whole, settings = {**self.environment, **environment}, {"start_new_session": True, "cwd": self.folder}
        with (self.folder / f"node{len(self._started)}.log").open("w") as log:
            started = subprocess.Popen(command, env=whole, stdout=log, stderr=subprocess.STDOUT, **settings)
        self._started.append(started)
        self._await_start(started, Path(log.name))  # one after the other: they might take the same ports

    def _await_start(self, started, log):
        for _ in range(600):
            if "--block" in log.read_text():
                return
            assert started.poll() is None, log.read_text()
            time.sleep(0.1)
        raise AssertionError(log.read_text())

    def run(self, *words, **environment):
        """Run the ``strata`` command on it, from an empty folder; gives the finished process."""
        where = self.folder / "driver"
        where.mkdir(exist_ok=True)
        command = [*STRATA, *words]
        environment = {**self.environment, **environment}
        return subprocess.run(command, env=environment, cwd=where, capture_output=True, text=True, timeout=170)

    def close(self):
        for process in self._started:
            process.send_signal(signal.SIGTERM)
        for process in self._started:
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)


@contextmanager
def ray_nodes():
    """A folder for a cluster, with nothing started in it yet; ends whatever was."""
    folder = tempfile.mkdtemp(prefix="sr-", dir="/tmp")  # short: Ray's sockets lie below it
    nodes = Nodes(folder)
    try:
        yield nodes
    finally:
        nodes.close()
        shutil.rmtree(folder, ignore_errors=True)
