"""What is to be run, and on what: the words of a run, checked, and the machines that its launch file asks for."""

import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from strata.cluster.launch.checks import at_least, label
from strata.engine.config.load import load_config
from strata.engine.config.schema import RunConfig
from strata.engine.config.written import latest, parse_overrides, read_yaml
from strata.engine.errors import ConfigError
from strata.engine.method.find import short_name

START_S = 300
"""Wall seconds for which a launched run waits for its nodes, unless its words say otherwise."""

OURS = ("ray.address", "ray.nodes", "output")


@dataclass(frozen=True)
class Job:
    """A run, and the machines for it.

    Attributes:
        words: what follows ``strata run``: a method and ``key=value``; quoted by nobody yet.
        name: of the job or the cluster; lower case letters, digits and dashes.
        nodes: machines in all, of which the first is Ray's head.
        cpus: of each.
        gpus: of each.
    """

    words: Sequence[str]
    name: str
    nodes: int = 1
    cpus: int = 4
    gpus: int = 0

    def command(self, *more: str) -> str:
        """The shell command that makes the run, or goes on with it, with more words at its end."""
        return shlex.join(["strata", "run", *self.words, *more, "--continue"])


def job_for(source: str, overrides: Sequence[str], name: str, nodes: int, cpus: int, gpus: int) -> Job:
    """The job of a run as the command line names it; a YAML file becomes words, so that nothing but them need travel.

    Args:
        source: a method's name or a YAML file.
        overrides: ``key=value`` words.
        name: of the job; empty: made from the method's.
        nodes: how many machines, at least one.
        cpus: of each, at least one.
        gpus: of each.

    Raises:
        ConfigError: for whatever is wrong with the run's configuration or the machines, or does not fit together.
    """
    machines = at_least("--nodes", nodes, 1), at_least("--cpus", cpus, 1), at_least("--gpus", gpus, 0)
    config = load_config(source, overrides)
    _check(config, overrides, gpus)
    words = _words(source, overrides, config)
    method = re.sub(r"[^a-z0-9]+", "-", short_name(config.algorithm).lower()).strip("-")
    return Job(words, label("--name", name or f"strata-{method}"), *machines)


def _check(config: RunConfig, overrides: Sequence[str], gpus: int) -> None:
    given = {word.partition("=")[0] for word in overrides}
    if taken := sorted(given & set(OURS)):
        raise ConfigError(f"{taken[0]}: the launch file sets it itself. Leave it out.")
    if config.runtime == "inprocess":
        raise ConfigError("runtime=inprocess: a launch file starts Ray. Leave it out, or use `strata run` there.")
    wanted = max([config.clients.num_gpus, *(part.num_gpus for part in config.clients.classes.values())])
    if wanted and not gpus:
        raise ConfigError(
            f"clients.num_gpus={wanted:g}: the nodes have no GPU. Give them some, e.g. --gpus 1, or set it to 0."
        )


def _words(source: str, overrides: Sequence[str], config: RunConfig) -> list[str]:
    """Words that give ``config`` without the YAML file, if the source is one."""
    method, own = source, list(overrides)
    if source.endswith((".yaml", ".yml")):
        said = read_yaml(Path(source))
        method = str(parse_overrides(overrides).get("algorithm", said.pop("algorithm", "permfl")))
        said.pop("algorithm", None)
        own = latest([*_dotted(said), *overrides])
        if load_config(method, own) != config:
            raise ConfigError(f"{source}: it cannot be written as key=value words. Name the method and its settings.")
        own = [word for word in own if word.partition("=")[0] not in OURS]  # which the launch file says instead
    return [method, *latest([f"ray.start_timeout_s={START_S}", *own])]


def _dotted(said: Mapping[str, object], path: str = "") -> Iterator[str]:
    for name, value in said.items():
        if isinstance(value, dict) and value:
            yield from _dotted(value, f"{path}{name}.")
        else:
            text = yaml.safe_dump(value, default_flow_style=True, width=10_000).removesuffix("\n...\n").strip()
            yield f"{path}{name}={text}"
