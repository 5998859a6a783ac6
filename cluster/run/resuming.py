"""Whether a run can be gone on with as it was asked for, and the checkpoint that it goes on from.

What cannot be done is refused before anything of the run's folder is rewritten.
"""

from operator import attrgetter
from pathlib import Path

from strata.cluster.run.session import Session
from strata.cluster.sinks.jsonl import CONFIG, METRICS, read_metrics
from strata.cluster.sinks.sink import CHECKPOINTS, Plain
from strata.engine.config.load import config_from_dict
from strata.engine.config.schema import RunConfig
from strata.engine.config.written import read_yaml
from strata.engine.errors import CheckpointError, ConfigError
from strata.engine.identity import FILE_KEYS, entering
from strata.engine.notify import Notify
from strata.engine.state import checkpoint


def changed(run_dir: Path, changes: Plain) -> RunConfig:
    """The configuration of a run that was begun, with what is to be changed for the rest of it.

    Raises:
        CheckpointError: when there is no run there.
        ConfigError: for a wrong key or value, or one that a run has from its beginning: its folder, its one seed.
    """
    if not (run_dir / CONFIG).is_file():
        raise CheckpointError(f"{run_dir}: no run was found there ({CONFIG} is missing).")
    begun = read_yaml(run_dir / CONFIG)
    config = config_from_dict(_merged(begun, changes), str(run_dir / CONFIG))
    if config.seeds:
        raise ConfigError(
            f"seeds={config.seeds}: expected none, since {run_dir} is a run of one seed, {begun.get('seed')}. Resume "
            "it without seeds=…, and start runs of other seeds anew."
        )
    if config.output != begun.get("output") and Path(config.output).expanduser().resolve() != run_dir.resolve().parent:
        raise ConfigError(
            f"output={config.output}: expected none, since a run that is resumed stays in its folder, {run_dir}. Leave "
            "it out; a run's folder may be moved as a whole and resumed where it lies then."
        )
    return config


def _merged(base: Plain, changes: Plain) -> Plain:
    result = dict(base)
    for key, value in changes.items():
        held = result.get(key)
        result[key] = _merged(held, value) if isinstance(held, dict) and isinstance(value, dict) else value
    return result


def require_resumable(config: RunConfig, run_dir: Path) -> None:
    """Check that a run can be gone on with under a configuration.

    Raises:
        CheckpointError: when a setting that enters results is another one than the run has, more rounds are done than
            are asked for, or rounds before the newest checkpoint are missing.
    """
    begun = config_from_dict(read_yaml(run_dir / CONFIG), str(run_dir / CONFIG))
    checkpoint.require_same(run_dir, entering(begun), entering(config))
    path = run_dir / METRICS
    written = [int(plain["round"]) for plain in read_metrics(path)] if path.exists() else []
    saved = checkpoint.found(run_dir / CHECKPOINTS)
    at = checkpoint.round_of(saved[-1]) if saved else 0
    kept = [(line, round) for line, round in enumerate(written, 1) if round <= at]  # the others are made anew
    for expected, (line, round) in enumerate(kept, 1):
        if round != expected:
            raise CheckpointError(
                f"{path}, line {line}: expected round {expected}, found {round}: lines were added, lost or exchanged. "
                "Put a copy of the file there that has each round once, or start a new run."
            )
    if len(kept) < at:
        raise CheckpointError(
            f"{path}: expected the {at} rounds before {saved[-1]}, found {len(kept)} of them. Put a copy of the file "
            "there that has them, or start a new run."
        )
    if config.rounds < (done := max([at, *written])):
        raise CheckpointError(
            f"rounds={config.rounds}: expected {done} or more, since {done} rounds of {run_dir} are done. For a run of "
            f"{config.rounds} rounds start a new one."
        )


def restore(session: Session, config: RunConfig, run_dir: Path, notify: Notify) -> None:
    """Take a session to the newest checkpoint of its run; without one it stays at the start, and says so after rounds.

    Raises:
        CheckpointError: when it is refused. Another one is named only where that can be restored.
    """
    saved = checkpoint.found(run_dir / CHECKPOINTS)
    if not saved:
        if (run_dir / METRICS).exists():
            notify(f"{run_dir} has no checkpoint: its rounds are made anew, from the first")
        return
    try:
        session.restore(saved[-1])
    except CheckpointError as error:
        raise CheckpointError(f"{error}{_files_changed(config, run_dir)}{_way_out(session, saved)}") from None
    notify(f"Resumed after round {session.round} from {saved[-1]}")


def _way_out(session: Session, saved: list[Path]) -> str:
    """Which older checkpoint can be restored, and how to go on from it; empty where none can."""
    for path in reversed(saved[:-1]):
        try:
            session.restore(path)
        except CheckpointError:
            continue
        newer = saved[saved.index(path) + 1 :]
        return f" {path} is whole: to continue from it, move {' and '.join(map(str, newer))} elsewhere."
    return ""


def _files_changed(config: RunConfig, run_dir: Path) -> str:
    """Which of the files that a run reads are named otherwise now."""
    begun = config_from_dict(read_yaml(run_dir / CONFIG), str(run_dir / CONFIG))
    pairs = {key: (attrgetter(key)(begun), attrgetter(key)(config)) for key in FILE_KEYS}
    return "".join(f" {key} was {old!r}, and is {new!r} now." for key, (old, new) in pairs.items() if old != new)
