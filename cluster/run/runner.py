"""Runs from beginning to end: a run directory, sinks, checkpoints, signals. One run per seed."""

import platform
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import fmean
from types import FrameType
from typing import Any

from strata.cluster.run.session import AGENTS, Session
from strata.cluster.sinks.architectures import ArchitecturesSink
from strata.cluster.sinks.sink import GuardedSink, RunInfo, Sink
from strata.cluster.sinks.display import Display
from strata.cluster.sinks.jsonl import CONFIG, METRICS, JsonlSink, read_metrics, record_from_plain
from strata.cluster.sinks.weights_and_biases import WandbSink
from strata.engine.config.load import config_from_dict, read_yaml, to_dict, to_yaml
from strata.engine.config.schema import RunConfig, for_seed
from strata.engine.errors import CheckpointError, StateError, StrataError
from strata.engine.rounds.records import RoundRecord
from strata.engine.state import checkpoint

CHECKPOINTS = "checkpoints"
INTERRUPTED = 130  # what a shell reports for Ctrl-C


@dataclass
class RunSummary:
    """What a run came to: best and last accuracies by kind of model, and totals."""

    run_dir: Path
    last: dict[str, float] = field(default_factory=dict)
    best: dict[str, float] = field(default_factory=dict)
    worst_decile: dict[str, float] = field(default_factory=dict)
    rounds: int = 0
    virtual_s: float = 0.0
    straggling_s: float = 0.0
    bytes_total: int = 0
    flops: int = 0
    exit_code: int = 0
    wall_s: float = 0.0
    agents_wall_s: float = 0.0
    timed: int = 0
    straggling: list[float] = field(default_factory=list)

    def add(self, record: RoundRecord) -> None:
        """Count one more round."""
        for kind, scores in record.scores.items():
            self.last[kind] = scores.accuracy
            self.best[kind] = max(self.best.get(kind, 0.0), scores.accuracy)
            self.worst_decile[kind] = scores.worst_decile
        self.straggling.append(record.straggling_s)
        self.straggling_s = fmean(self.straggling)
        self.rounds += 1
        self.wall_s += record.wall_s
        self.agents_wall_s += record.agents_wall_s
        self.timed += bool(record.wall_s)
        self.virtual_s = record.virtual_s
        self.bytes_total += sum(
            (record.bytes_client_down, record.bytes_client_up, record.bytes_team_down, record.bytes_team_up)
        )
        self.flops += record.flops

    def plain(self) -> dict[str, object]:
        """As nested plain numbers, for sinks."""
        return {
            "last": self.last,
            "best": self.best,
            "worst_decile": self.worst_decile,
            "rounds": self.rounds,
            "virtual_s": self.virtual_s,
            "straggling_s": self.straggling_s,
            "bytes": self.bytes_total,
            "flops": self.flops,
            **self._trends(),
        }

    def _trends(self) -> dict[str, float]:
        """Straggling at both ends of the run, and what a round takes on the wall, for runs that agents decided."""
        if not self.agents_wall_s:
            return {}
        tenth = max(1, self.rounds // 10)
        return {
            "straggling_first_s": fmean(self.straggling[:tenth]),
            "straggling_last_s": fmean(self.straggling[-tenth:]),
            "agents_wall_s_per_round": self.agents_wall_s / self.timed,
            "clients_wall_s_per_round": self.wall_s / self.timed,
        }


def new_run_dir(config: RunConfig) -> Path:
    """A folder of its own for a run, under ``config.output``, with the resolved configuration in it."""
    stamp = time.strftime("%Y%m%d-%H%M%S")
    base = Path(config.output) / f"{config.algorithm.rsplit('.', 1)[-1]}-{stamp}-seed{config.seed}"
    for number in range(1000):
        path = base if not number else base.with_name(f"{base.name}-{number}")
        try:
            path.mkdir(parents=True)
            _write_config(config, path)
        except FileExistsError:
            continue
        except OSError as error:
            raise StrataError(f"output={config.output}: the run's folder cannot be made: {error}.") from None
        return path
    raise StrataError(f"output={config.output}: {base} and a thousand like it exist already.")


def _write_config(config: RunConfig, run_dir: Path) -> None:
    partial = run_dir / f".{CONFIG}"
    partial.write_text(to_yaml(config), encoding="utf8")
    partial.replace(run_dir / CONFIG)


def run_all(config: RunConfig, display: Display) -> list[RunSummary]:
    """One run per seed; ends early when one is interrupted."""
    summaries = []
    for seed in config.seeds or [config.seed]:
        one = for_seed(config, seed)
        summaries.append(run_one(one, new_run_dir(one), display))
        if summaries[-1].exit_code:
            break
    return summaries


def resume(run_dir: Path, overrides: Mapping[str, Any], display: Display) -> RunSummary:
    """Continue a run where its newest checkpoint left it, or from the start where there is none yet.

    Args:
        run_dir: folder of the run.
        overrides: plain nested keys to change: the number of rounds, or anything about placement.
        display: where to show it.

    Raises:
        CheckpointError: when there is no run there, or its checkpoint is refused.
    """
    if not (run_dir / CONFIG).is_file():
        raise CheckpointError(f"{run_dir}: no run was found there ({CONFIG} is missing).")
    config = config_from_dict(_merged(read_yaml(run_dir / CONFIG), overrides), str(run_dir / CONFIG))
    return run_one(config, run_dir, display, resumed=True)


def _merged(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    result = dict(base)
    for key, value in changes.items():
        held = result.get(key)
        result[key] = _merged(held, value) if isinstance(held, dict) and isinstance(value, dict) else value
    return result


def run_one(config: RunConfig, run_dir: Path, display: Display, resumed: bool = False) -> RunSummary:
    """One run of one seed, resumed when its folder holds a checkpoint.

    Ctrl-C ends it after the round under way, with a checkpoint; a second one ends it at once.
    """
    session = Session(config, display.message, fresh=not checkpoint.found(run_dir / CHECKPOINTS))
    summary = RunSummary(run_dir)
    with session, _interrupts() as interrupted:
        _restore(session, run_dir, display)
        if resumed:  # accepted: what was changed holds for the next resume too
            _write_config(config, run_dir)
        sinks = _sinks(config, run_dir, display)
        info = RunInfo(
            run_dir=run_dir,
            algorithm=config.algorithm,
            config=to_dict(config),
            seed=config.seed,
            versions=versions(),
            rounds=config.rounds,
            resumed_round=session.round,
        )
        for sink in sinks:
            sink.start(info)
        for plain in read_metrics(run_dir / METRICS):  # the rounds before a resume; none in a fresh run
            summary.add(record_from_plain(plain))
        try:
            _rounds(session, config, run_dir, sinks, summary, display, interrupted)
        except BaseException:
            summary.exit_code = 1
            raise
        finally:
            for sink in sinks:
                sink.finish(summary.plain(), summary.exit_code)
    if summary.exit_code == INTERRUPTED:
        display.message(f"Interrupted after round {session.round}. Continue with: strata run resume={run_dir}")
    return summary


def _restore(session: Session, run_dir: Path, display: Display) -> None:
    saved = checkpoint.found(run_dir / CHECKPOINTS)
    if saved:
        try:
            session.restore(saved[-1])
        except CheckpointError as error:
            before = f"from {saved[-2]}" if len(saved) > 1 else "from the start"
            raise CheckpointError(f"{error} To continue {before} instead, delete {saved[-1]}.") from None
        display.message(f"Resumed after round {session.round} from {saved[-1]}")


def _rounds(
    session: Session,
    config: RunConfig,
    run_dir: Path,
    sinks: Sequence[Sink],
    summary: RunSummary,
    display: Display,
    interrupted: Callable[[], bool],
) -> None:
    every = config.checkpoint.every
    while session.round < config.rounds:
        record = session.run_round()
        summary.add(record)
        for sink in sinks:
            sink.round(record)
        stop = interrupted()
        last = record.round == config.rounds
        if stop or (every and (record.round % every == 0 or last)):
            _save(session, run_dir, display, final=stop or last)
        if stop and not last:
            summary.exit_code = INTERRUPTED
            return


def _save(session: Session, run_dir: Path, display: Display, final: bool) -> None:
    try:
        session.save(run_dir / CHECKPOINTS)
        if final:
            session.save_agents(run_dir / AGENTS)
    except CheckpointError as error:
        if final or isinstance(error, StateError):  # a state that cannot be kept now never will be
            raise
        # Earlier checkpoints are whole; the run goes on and tries again at the next one.
        display.message(f"warning: {error}")


def _sinks(config: RunConfig, run_dir: Path, display: Display) -> list[Sink]:
    sinks: list[Sink] = [
        JsonlSink(),
        GuardedSink(display, "display", display.message),
        GuardedSink(ArchitecturesSink(display), "the table of architectures", display.message),
    ]
    if config.tracking.wandb != "disabled":
        sinks.append(GuardedSink(WandbSink(config.tracking, display.message), "Weights & Biases", display.message))
    return sinks


@contextmanager
def _interrupts() -> Iterator[Callable[[], bool]]:
    """Turns the first Ctrl-C (or SIGTERM) into a question that the round loop asks; the second one is immediate."""
    seen: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        if seen:
            raise KeyboardInterrupt
        seen.append(number)
        sys.stderr.write("\nFinishing this round, then saving. Press Ctrl-C again to stop at once.\n")

    try:
        before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    except ValueError:  # not the main thread, e.g. in a notebook's executor: leave signals to their owner
        yield lambda: False
        return
    try:
        yield lambda: bool(seen)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that enter results."""
    found = {"python": platform.python_version()}
    for name in ("strata-fl", "torch", "numpy", "ray", "omegaconf", "wandb"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found
