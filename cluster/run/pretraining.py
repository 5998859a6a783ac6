"""Agents that learn in the timing model before any run: their training, their curves, and how they fare."""

import time
from dataclasses import replace
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from strata.agents.driver import RoundResult
from strata.agents.policies import Policies
from strata.cluster.humanise import humanise_seconds
from strata.cluster.run.learning import Standing, compare_rules, make_policies, pretrain, record_of, save_policies
from strata.cluster.run.runner import versions
from strata.cluster.sinks.jsonl import JsonlSink
from strata.cluster.sinks.sink import GuardedSink, RunInfo, Sink
from strata.cluster.sinks.weights_and_biases import WandbSink
from strata.engine.config.load import to_dict, to_yaml
from strata.engine.config.schema import RunConfig
from strata.engine.errors import ConfigError, StrataError
from strata.engine.method.control import Control
from strata.envs.opening import timing_turns


def train_agents(config: RunConfig, rounds: int, populations: int, folder: Path, console: Console) -> None:
    """Train, save to ``folder/agents``, log the curves, and compare with the method's rules on held-out populations.

    With 0 rounds nothing is trained or written: saved agents (``agents.checkpoint``) are compared as they are.

    Raises:
        StrataError: when the method leaves nothing to agents, or the folder cannot be written.
    """
    if config.agents.policy != "rllib":
        raise ConfigError(f"agents.policy={config.agents.policy}: only rllib learns; leave it out.")
    if not rounds and not config.agents.checkpoint:
        raise ConfigError("--rounds 0 compares saved agents; name them with agents.checkpoint=FOLDER.")
    # Whatever the run itself would do with the agents, here they learn, and in these rounds only.
    config = replace(config, agents=replace(config.agents, mode="train", pretrain_rounds=0))
    control = timing_turns(config).control
    policies = make_policies(config, control, console.print, fresh=True)
    if rounds:
        _train(config, policies, control, rounds, populations, folder, console)
    learners = policies.state()["learners"]
    console.print(standings(compare_rules(config, learners, control, populations=4, rounds=12)))
    saved = folder / "agents" if rounds else config.agents.checkpoint
    console.print(f"use them:  strata run {config.algorithm} agents.checkpoint={saved}", soft_wrap=True)


def _train(
    config: RunConfig,
    policies: Policies,
    control: Control,
    rounds: int,
    populations: int,
    folder: Path,
    console: Console,
) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "config.yaml").write_text(to_yaml(config), encoding="utf8")
    except OSError as error:
        raise StrataError(f"{folder}: nothing can be written there: {error}. Choose another --output.") from None
    watch = Curves(config, rounds, folder, console)
    began = time.perf_counter()
    with watch.progress:
        pretrain(config, policies, rounds, populations, watch)
    watch.finish()
    save_policies(policies, control, config, folder / "agents")
    console.print(f"{rounds} rounds in {time.perf_counter() - began:.0f} s; agents saved to {folder / 'agents'}")


class Curves:
    """Takes each round of a training: progress for people, records for the same sinks as a run's."""

    def __init__(self, config: RunConfig, rounds: int, folder: Path, console: Console) -> None:
        """Open the sinks of the curves in ``folder``."""
        columns = (TextColumn("training"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        self.progress = Progress(*columns, TextColumn("{task.description}"), console=console, transient=True)
        self._task = self.progress.add_task("", total=rounds)
        self._console, self._every = console, max(1, rounds // 10)
        self._virtual_s = 0.0
        self._recent: list[float] = []
        self._sinks: list[Sink] = [JsonlSink()]
        if config.tracking.wandb != "disabled":
            self._sinks.append(GuardedSink(WandbSink(config.tracking, console.print), "Weights & Biases"))
        for name in ("metrics.jsonl", "timing.jsonl"):
            (folder / name).unlink(missing_ok=True)
        info = RunInfo(folder, f"{config.algorithm}-agents", to_dict(config), config.seed, versions(), rounds, 0)
        for sink in self._sinks:
            sink.start(info)

    def __call__(self, number: int, result: RoundResult) -> None:
        """Log a round, move the progress on, and print the straggling ten times over the training."""
        report = result.played.report
        self._virtual_s += report.round_s
        self._recent.append(report.straggling_s)
        for sink in self._sinks:
            sink.round(record_of(number, self._virtual_s, result))
        self.progress.update(self._task, completed=number)
        if number % self._every == 0:
            self._console.print(f"round {number:>6}  straggling {humanise_seconds(float(np.mean(self._recent)))}")
            self._recent.clear()

    def finish(self) -> None:
        """Close the sinks of the curves."""
        for sink in self._sinks:
            sink.finish({"virtual_s": self._virtual_s}, 0)


def standings(found: dict[str, Standing]) -> Table:
    """Policies side by side: straggling and round length, and the straggling that each takes off ``uniform``."""
    table = Table(title="held-out populations, without learning", title_justify="left")
    for heading in ("policy", "straggling", "round", "straggling against uniform"):
        table.add_column(heading, justify="left" if heading == "policy" else "right")
    base = found["uniform"].straggling_s if "uniform" in found else 0.0
    for name, standing in found.items():
        change = f"{standing.straggling_s / base - 1:+.1%}" if base else "–"
        table.add_row(name, humanise_seconds(standing.straggling_s), humanise_seconds(standing.round_s), change)
    return table
