"""Runs from beginning to end: a run directory, sinks, checkpoints, signals. One run per seed."""

import os
import platform
import signal
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext, suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import FrameType

from strata.cluster.places import fresh_folder, tidied
from strata.cluster.run.between import is_followed, is_saved
from strata.cluster.run.profiling import Profile
from strata.cluster.run.recall import remember
from strata.cluster.run.recovery import INTERRUPTED, LOST, Recovery
from strata.cluster.run.resuming import changed, require_resumable, restore
from strata.cluster.run.session import Session
from strata.cluster.run.stopping import Rule, Stopping
from strata.cluster.run.summary import RunSummary
from strata.cluster.sinks.architectures import ArchitecturesSink
from strata.cluster.sinks.display import Display
from strata.cluster.sinks.installed import guarded
from strata.cluster.sinks.jsonl import CONFIG, METRICS, JsonlSink, read_metrics, record_from_plain
from strata.cluster.sinks.sink import CHECKPOINTS, LEARNT, GuardedSink, Plain, RunInfo, Sink
from strata.cluster.sinks.weights_and_biases import WandbSink
from strata.engine.config.given import NOTHING, Given
from strata.engine.config.load import to_dict, to_yaml
from strata.engine.config.schema import RunConfig, for_seed
from strata.engine.config.written import read_yaml
from strata.engine.errors import CheckpointError, StateError, StrataError
from strata.engine.method.find import short_name
from strata.engine.rounds.records import RoundRecord
from strata.engine.state import checkpoint

STOPPING = [
    getattr(signal, name)
    for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1", "SIGXCPU")  # not all systems have all of them
    if hasattr(signal, name)
]
"""Ctrl-C, the end of a job, a terminal that hangs up, a batch system's warning, the end of the CPU's time."""


def new_run_dir(config: RunConfig) -> Path:
    """A folder of its own for a run, under ``config.output``, with the resolved configuration in it."""
    stamp = time.strftime("%Y%m%d-%H%M%S")
    try:
        path = fresh_folder(
            Path(config.output).expanduser() / f"{short_name(config.algorithm)}-{stamp}-seed{config.seed}"
        )
        write_config(config, path)
    except OSError as error:
        raise StrataError(f"output={config.output}: the run's folder cannot be made: {error}.") from None
    return path


def write_config(config: RunConfig, run_dir: Path) -> None:
    """Write the resolved configuration into a run's folder.

    Raises:
        OSError: when it cannot be written.
    """
    partial = run_dir / f".{CONFIG}"
    partial.write_text(to_yaml(config), encoding="utf8")
    partial.replace(run_dir / CONFIG)


def _discard(run_dir: Path) -> None:
    """Remove the folder of a run that did not begin, if nothing else lies there."""
    (run_dir / CONFIG).unlink(missing_ok=True)
    with suppress(OSError):
        run_dir.rmdir()


def run_all(
    config: RunConfig, display: Display, profile: bool = False, begun: Callable[[RunConfig], Path | None] | None = None
) -> list[RunSummary]:
    """One run per seed, each with its profile if asked for; ends early when one is interrupted.

    A run that fails keeps none of the others from being made: its summary has the ``failure``.

    ``begun`` says of a run of one seed where it lies if it was begun before, and is then gone on with.
    """
    summaries = []
    with tidied(Path(config.output).expanduser()), on_one_ray([config]):
        for seed in config.seeds or [config.seed]:
            one = for_seed(config, seed)
            found = begun(one) if begun else None
            folder = found or new_run_dir(one)
            try:
                summaries.append(run_one(one, folder, display, resumed=found is not None, profile=profile))
            except StrataError as error:
                summaries.append(RunSummary(folder, exit_code=1, failure=error))
            if summaries[-1].exit_code == INTERRUPTED:
                break
    return summaries


def on_one_ray(configs: Iterable[RunConfig]) -> AbstractContextManager[None]:
    """In which runs follow each other on one Ray, where they are on any: not each of them starts and ends its own."""
    if all(config.runtime == "inprocess" for config in configs):
        return nullcontext()
    from strata.engine.runtime.ray import kept

    return kept()


def newest_run(config: RunConfig) -> Path | None:
    """The newest folder under ``config.output`` of a run of this method and seed; None where there is none."""
    name = short_name(config.algorithm)
    found = Path(config.output).expanduser().glob(f"{name}-*-seed{config.seed}*/{CONFIG}")
    ours = [path for path in found if read_yaml(path).get("seed") == config.seed]
    return max(ours, key=lambda path: path.stat().st_mtime_ns).parent if ours else None


def resume(
    run_dir: Path,
    overrides: Plain,
    display: Display,
    profile: bool = False,
    given: Given = NOTHING,
    sinks: Sequence[Sink] = (),
    rule: Rule | None = None,
) -> RunSummary:
    """Continue a run where its newest checkpoint left it, or from the start where there is none yet.

    Args:
        run_dir: folder of the run.
        overrides: plain nested keys to change: the number of rounds, or anything about placement.
        display: where to show it.
        profile: see :func:`run_one`.
        given: the objects of Python that the run is made of, the same as when it began.
        sinks: more of them.
        rule: ends the run, beside what the group ``stop`` says.

    Raises:
        CheckpointError: when there is no run there, or it cannot be gone on with like that.
        ConfigError: for settings that are wrong, or that a run has from its beginning.
    """
    return run_one(changed(run_dir, overrides), run_dir, display, True, profile, given, sinks, rule)


def run_one(
    config: RunConfig,
    run_dir: Path,
    display: Display,
    resumed: bool = False,
    profile: bool = False,
    given: Given = NOTHING,
    sinks: Sequence[Sink] = (),
    rule: Rule | None = None,
) -> RunSummary:
    """One run of one seed, resumed when its folder holds a checkpoint.

    Ctrl-C ends it after the round under way, with a checkpoint; a second one ends it at once. ``profile`` shows where
    the wall seconds of the rounds went, and writes it into the folder. ``given``, ``sinks``, ``rule``: see
    :func:`resume`.
    """
    if resumed:
        require_resumable(config, run_dir)
    fresh = not checkpoint.found(run_dir / CHECKPOINTS)
    every = _sinks(config, display) + guarded(config.tracking.sinks, sinks, display.message)
    recovery = Recovery(config, run_dir / CHECKPOINTS, display.message)
    try:
        session = recovery.started(lambda: Session(config, display.message, fresh, given))
    except StrataError:
        if not resumed:
            _discard(run_dir)
        raise
    finally:
        display.settle()
    summary = RunSummary(run_dir, failures=recovery.survived)
    spent = Profile(session.started, survived=recovery.survived)
    summary.stopping = Stopping(config.stop, rule)
    with session, closing(recovery), _interrupts() as interrupted:
        recovery.interrupted = interrupted
        restore(session, config, run_dir, display.message)
        if given.any:
            remember(given, session.federation.world, run_dir)
        if resumed:  # accepted: what was changed holds for the next resume too
            write_config(config, run_dir)
        with _records(_info(config, run_dir, session.round), summary, every) as take:
            _rounds(session, recovery, summary, spent, take, display, interrupted)
    for reason, times in sorted(session.federation.singly.items()):
        display.message(f"training.batch_clients: {times} requests were answered client by client: {reason}")
    if summary.stopped:
        display.message(f"Stopped after round {session.round} of {config.rounds}: {summary.stopped}.")
    if profile:
        _tell(spent, run_dir, display)
    if summary.exit_code == INTERRUPTED:
        display.message(f"Interrupted after round {session.round}. Continue with: strata run resume={run_dir}")
    return summary


def _tell(spent: Profile, run_dir: Path, display: Display) -> None:
    display.show(spent.table())
    for line in filter(None, (spent.start(), spent.recoveries())):
        display.message(line)
    try:
        if spent.rounds:  # a run that was over keeps the profile of its rounds
            spent.write(run_dir)
    except OSError as error:
        display.message(f"warning: the profile cannot be written: {error}")


def _info(config: RunConfig, run_dir: Path, resumed_round: int) -> RunInfo:
    return RunInfo(
        run_dir=run_dir,
        algorithm=config.algorithm,
        config=to_dict(config),
        seed=config.seed,
        versions=versions(),
        rounds=config.rounds,
        resumed_round=resumed_round,
    )


@contextmanager
def _records(run: RunInfo, summary: RunSummary, sinks: Sequence[Sink]) -> Iterator[Callable[[RoundRecord], None]]:
    """Where the rounds of a run go: into its summary and all sinks, which are started before and finished after."""

    def take(record: RoundRecord) -> None:
        if record.round <= summary.rounds:  # made again, after something was lost
            return
        summary.add(record)
        for sink in sinks:
            sink.round(record)

    for sink in sinks:
        sink.start(run)
    for plain in read_metrics(run.run_dir / METRICS):  # the rounds before a resume; none in a fresh run
        summary.add(record_from_plain(plain))
    try:
        yield take
    except BaseException:
        summary.exit_code = 1
        raise
    finally:
        for sink in sinks:
            sink.finish(summary.plain(), summary.exit_code)


def _rounds(
    session: Session,
    recovery: Recovery,
    summary: RunSummary,
    spent: Profile,
    take: Callable[[RoundRecord], None],
    display: Display,
    interrupted: Callable[[], bool],
) -> None:
    """Run the rounds that are left, with their checkpoints; an interrupted run ends after the round under way.

    The last checkpoint belongs to the last round: a run whose actors die while it is written goes back and on.
    """
    config = session.config
    # A run that lost something while its last checkpoint was written makes the rounds since the one before again.
    while session.round < config.rounds and not (summary.stopped and session.round >= summary.rounds):
        before_s = session.federation.virtual_s
        try:
            ahead = not interrupted() and is_followed(config, session.round + 1, summary.stopping, spent)
            record = session.run_round(ahead)
            made = time.perf_counter()
            again = record.round <= summary.rounds
            take(record)
            stop = interrupted() and not session.federation.is_under_way
            last = record.round == (summary.rounds if summary.stopped else config.rounds)
            if stop or is_saved(config, record, before_s, last):
                _save(session, summary.run_dir, display, final=stop or last)
        except LOST as error:
            if not interrupted():  # what stops a job may have ended all of its processes
                recovery.recover(session, error)
            if interrupted():
                summary.exit_code = INTERRUPTED
                return
            continue
        if not again:
            spent.add(record, 0.0 if session.federation.is_under_way else time.perf_counter() - made)
        if stop and not last:
            summary.exit_code = INTERRUPTED
            return


def _save(session: Session, run_dir: Path, display: Display, final: bool) -> None:
    try:
        session.save(run_dir / CHECKPOINTS)
        if final:
            session.save_agents(run_dir / LEARNT)
    except CheckpointError as error:
        if final or isinstance(error, StateError):  # a state that cannot be kept now never will be
            raise
        # Earlier checkpoints are whole; the run goes on and tries again at the next one.
        display.message(f"warning: {error}")


def _sinks(config: RunConfig, display: Display) -> list[Sink]:
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
    """Turns the first of :data:`STOPPING` into a question that the round loop asks; the second one is immediate."""
    seen: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        if seen and number in (signal.SIGINT, signal.SIGTERM):
            raise KeyboardInterrupt
        if seen:  # the system repeats SIGXCPU every second
            return
        seen.append(number)
        with suppress(OSError):  # whoever hung up does not read it
            os.write(2, b"\nFinishing this round, then saving. Press Ctrl-C again to stop at once.\n")

    try:
        before = {number: signal.signal(number, note) for number in STOPPING}
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
