"""Weights & Biases. The only module that imports wandb, and only once a run asks for it.

A run must neither wait for the service nor fail with it: logging only hands the values to W&B's own process, starting
online and the last upload are bounded in time, and a run that cannot start online goes on offline. What is stored
below the run directory can be uploaded at any time with ``wandb sync``.
"""

import hashlib
import netrc
import os
import platform
import shutil
import subprocess
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit

from strata.cluster.sinks.jsonl import read_records
from strata.cluster.sinks.metrics import flatten, metrics_of
from strata.cluster.sinks.sink import CHECKPOINTS, LEARNT, RunInfo, to_stderr
from strata.engine.config.tracking import TrackingConfig
from strata.engine.rounds.records import RoundRecord
from strata.engine.state.series import newest

if TYPE_CHECKING:
    import wandb

Mode = Literal["online", "offline", "disabled"]

INIT_TIMEOUT_S = 8.0
FINISH_TIMEOUT_S = 30.0  # what was not uploaded by then stays on the disk
ID_FILE = "wandb_id"

# The axis of each group of metrics. The accuracies appear twice, because W&B gives each metric one default axis.
GROUPS = "accuracy measures fairness loss client team global server time method agents async privacy"
AXES = {
    "round": tuple(f"{group}/*" for group in GROUPS.split()),
    "virtual_s": ("accuracy_by_time/*", "measures_by_time/*"),
}


class WandbSink:
    """Logs the configuration, every round and the final summary to Weights & Biases.

    Args:
        config: the ``tracking`` part of the configuration.
        report: where one line about online or offline goes.
    """

    job_type: str | None = None

    def __init__(self, config: TrackingConfig, report: Callable[[str], None] = to_stderr) -> None:
        self._config, self._report = config, report
        self._run: wandb.Run | None = None
        self._dir = Path()

    def start(self, run: RunInfo) -> None:
        """Begin or continue the W&B run; within seconds, also when the service cannot be reached."""
        if self._config.wandb == "disabled":
            return
        mode = self._mode()
        try:
            self._run = self._init(run, mode)
        except Exception as error:
            if mode != "online":
                raise
            self._run = self._init_again_offline(run, error)
        for axis, names in AXES.items():
            self._run.define_metric(axis)
            for name in names:
                self._run.define_metric(name, step_metric=axis)
        self._dir = run.run_dir
        if self._run.settings.mode == "offline":
            self._tell_again(run)

    def _tell_again(self, run: RunInfo) -> None:
        """Log the rounds before a resume once more, and let go of the files that hold them now.

        ``wandb sync`` does not join parts: what a killed process had not written out would be missing. Where a part
        was uploaded already, W&B has its rounds, and goes on behind them.
        """
        folder, name = run.run_dir / "wandb", stored_id(run.run_dir)
        parts = [path for path in folder.glob(f"offline-run-*-{name}") if path.resolve() != self._own_folder()]
        if any(folder.glob(f"run-*-{name}")) or any(folder.glob(f"offline-run-*-{name}/*.synced")):
            return
        for record in read_records(run.run_dir) if run.resumed_round else ():
            if record.round <= run.resumed_round:
                self.round(record)
        for part in parts:
            shutil.rmtree(part, ignore_errors=True)

    def _own_folder(self) -> Path:
        assert self._run is not None
        return Path(self._run.dir).resolve().parent

    def round(self, record: RoundRecord) -> None:
        """Log a round. It is handed to W&B's own process, so a slow network costs no time here."""
        if self._run is None:
            return
        tables = client_tables(record) if self._config.per_client else {}
        # An explicit step: what a resumed run repeats is then recognised and not stored twice.
        self._run.log({**metrics_of(record), **tables}, step=record.round)

    def finish(self, summary: Mapping[str, object], exit_code: int) -> None:
        """Store the summary and end the W&B run; gives up on what is not uploaded after ``FINISH_TIMEOUT_S``."""
        if self._run is None:
            return
        run, self._run = self._run, None
        run.summary.update(flatten(summary, "final/"))
        if self._config.artifacts:
            self._store(run)
        run.finish(exit_code=exit_code)

    def _store(self, run: "wandb.Run") -> None:
        """Store the run's newest checkpoint, with all that it needs, and its agents, as artifacts of the run."""
        import wandb

        for kind, folders in {"checkpoint": newest(self._dir / CHECKPOINTS), "agents": [self._dir / LEARNT]}.items():
            found = [path for path in folders if path.exists()]
            if found:
                artifact = wandb.Artifact(f"{kind}-{run.id}", type=kind)
                for path in found:
                    add = artifact.add_dir if path.is_dir() else artifact.add_file
                    add(str(path), name=path.name)
                run.log_artifact(artifact)

    def _mode(self) -> Mode:
        import wandb

        settings = wandb.setup().settings
        asked = self._config.wandb
        if asked == "auto" and settings.mode != "online":  # set by the user: WANDB_MODE, or `wandb offline`
            return "disabled" if settings.mode == "disabled" else "offline"
        if asked in ("auto", "online") and not has_key(settings.base_url, settings.api_key):
            if asked == "online":
                self._report("W&B: no key was found (wandb login, or WANDB_API_KEY), so this run is stored offline.")
            return "offline"
        return "offline" if asked == "offline" else "online"

    def _init(self, run: RunInfo, mode: Mode) -> "wandb.Run":
        import wandb

        config = self._config
        return wandb.init(
            project=config.project,
            entity=config.entity or None,
            group=config.group or None,
            job_type=self.job_type,
            name=config.name or run.run_dir.resolve().name,
            tags=config.tags,
            config=config_of(run),
            dir=str(run.run_dir),
            id=stored_id(run.run_dir),
            resume="allow" if run.resumed_round else None,
            allow_val_change=True,  # a resumed run may have other rounds, or another placement
            reinit="create_new",  # a W&B run of the caller's own stays as it is
            mode=mode,
            settings=wandb.Settings(**_settings(wandb.Settings.model_fields)),
        )

    def _init_again_offline(self, run: RunInfo, error: Exception) -> "wandb.Run":
        import wandb

        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        self._report(f"W&B cannot be reached, so this run is stored offline: {reason}")
        # After a failed start W&B's process holds the id as in use; only a new process takes it again.
        wandb.teardown()
        return self._init(run, "offline")


class ComparisonSink(WandbSink):
    """Logs a comparison as one W&B run of the job type ``compare``: its table and its pictures, and no rounds.

    Args:
        config: the ``tracking`` part of the configuration.
        headings: of the table.
        rows: of the table, a cell a heading.
        pictures: PNG files by name.
        report: where one line about online or offline goes.
        more: headings and rows of other tables, by name.
    """

    job_type = "compare"

    def __init__(
        self,
        config: TrackingConfig,
        headings: Sequence[str],
        rows: Sequence[Sequence[str]],
        pictures: Mapping[str, Path],
        report: Callable[[str], None] = to_stderr,
        more: Mapping[str, tuple[Sequence[str], Sequence[Sequence[str]]]] | None = None,
    ) -> None:
        super().__init__(config, report)
        self._tables = {"table": (headings, rows), **(more or {})}
        self._pictures = pictures

    def start(self, run: RunInfo) -> None:
        """Begin the W&B run and log everything; within seconds, also when the service cannot be reached."""
        super().start(run)
        if self._run is None:
            return
        import wandb

        tables = {
            f"comparison/{name}": wandb.Table(columns=list(headings), data=list(map(list, rows)))
            for name, (headings, rows) in self._tables.items()
        }
        pictures = {f"comparison/{name}": wandb.Image(str(path)) for name, path in self._pictures.items()}
        self._run.log({**tables, **pictures})


def _settings(known: Mapping[str, object]) -> dict[str, Any]:
    """Settings of W&B, bounded in time and quiet; those that an older or newer wandb does not know are left out."""
    wanted = {
        "init_timeout": INIT_TIMEOUT_S,
        "finish_timeout": FINISH_TIMEOUT_S,
        "console": "off",  # the live display would be stored frame by frame
        "silent": True,
        "disable_git": True,  # its search for the repository can take long; config holds the commit
        "x_disable_stats": True,  # the load of this machine says nothing about the simulated clients
    }
    return {name: value for name, value in wanted.items() if name in known}


def has_key(base_url: str, setting: str | None = None) -> bool:
    """Whether W&B will find a key without asking: in the settings, the environment or a netrc file."""
    if setting or os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return True
    for path in [os.environ.get("NETRC"), "~/.netrc", "~/_netrc"]:
        try:
            if path and netrc.netrc(os.path.expanduser(path)).authenticators(urlsplit(base_url).hostname or ""):
                return True
        except (OSError, netrc.NetrcParseError):
            continue
    return False


def stored_id(run_dir: Path) -> str:
    """Return the id of a directory's W&B run: made from machine and path, and kept there when the folder is moved."""
    path = run_dir / ID_FILE
    if not path.exists():
        place = f"{platform.node()}:{run_dir.resolve()}"
        path.write_text(hashlib.sha256(place.encode()).hexdigest()[:12] + "\n", encoding="utf8")
    return path.read_text(encoding="utf8").strip()


def config_of(run: RunInfo) -> dict[str, object]:
    """Collect what W&B shows as the configuration: the resolved one, versions of packages, the commit of the code."""
    extra = {"versions": dict(run.versions), "commit": code_commit(), "run_dir": str(run.run_dir)}
    return {**run.config, "algorithm": run.algorithm, "seed": run.seed, **extra}


def code_commit() -> str | None:
    """Return the git commit of this code; None where it is not a checkout, or git is missing."""
    here = Path(__file__).resolve()
    try:
        # A file that git does not track means an installation inside a repository of somebody else's.
        _git("ls-files", "--error-unmatch", here.name, folder=here.parent)
        return _git("rev-parse", "--verify", "HEAD", folder=here.parent)
    except (OSError, subprocess.SubprocessError):
        return None


def _git(*words: str, folder: Path) -> str:
    done = subprocess.run(["git", *words], cwd=folder, capture_output=True, text=True, timeout=5, check=True)
    return done.stdout.strip()


def client_tables(record: RoundRecord) -> "dict[str, wandb.Table]":
    """Two W&B tables: every client call of the round, and every client's headlines where they were evaluated."""
    import wandb

    names: list[str | int] = [
        "client",
        "team",
        "team_round",
        "device",
        "status",
        "bytes_down",
        "bytes_up",
        "flops",
        "total_s",
        "loss",
    ]
    seconds = record.calls.total_s.tolist()
    rows_of = [{**row, "total_s": total_s} for row, total_s in zip(record.calls.rows(), seconds, strict=True)]
    calls: list[Iterable[Any]] = [[row[str(name)] for name in names] for row in rows_of]
    tables = {"clients/calls": wandb.Table(columns=names, data=calls)} if calls else {}
    if record.scores:
        clients = sorted({client for scores in record.scores.values() for client in scores.clients})
        rows: list[Iterable[Any]] = [
            [client, *(scores.clients.get(client) for scores in record.scores.values())] for client in clients
        ]
        name = next(iter(record.scores.values())).measure.name
        tables[f"clients/{name}"] = wandb.Table(columns=["client", *record.scores], data=rows)
    return tables
