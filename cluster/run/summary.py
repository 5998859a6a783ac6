"""What a run came to, counted round by round."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean

from strata.cluster.footprint import peak_bytes
from strata.cluster.run.recovery import Survived
from strata.cluster.run.stopping import Stopping
from strata.engine.errors import StrataError
from strata.engine.evaluation.measures import ACCURACY
from strata.engine.rounds.records import ASYNC, RoundRecord
from strata.engine.transport.privacy import DELTA, EPSILON

PRIVACY = {"epsilon": EPSILON, "delta": DELTA}
STALENESS = f"{ASYNC}staleness/"


@dataclass
class RunSummary:
    """What a run came to: best and last headlines by kind of model, and totals; ``failure``: what ended it early."""

    run_dir: Path
    last: dict[str, float] = field(default_factory=dict)
    best: dict[str, float] = field(default_factory=dict)
    worst_decile: dict[str, float] = field(default_factory=dict)
    hurt: dict[str, float] = field(default_factory=dict)
    macro_f1: dict[str, float] = field(default_factory=dict)
    measures: dict[str, dict[str, float]] = field(default_factory=dict)
    headline: str = ACCURACY
    rounds: int = 0
    virtual_s: float = 0.0
    straggling_s: float = 0.0
    bytes_total: int = 0
    flops: int = 0
    counted: float = 0.0
    stale: float = 0.0
    idle_s: float = 0.0
    staleness: float = 0.0
    exit_code: int = 0
    wall_s: float = 0.0
    agents_wall_s: float = 0.0
    timed: int = 0
    straggling: list[float] = field(default_factory=list)
    failures: list[Survived] = field(default_factory=list)
    privacy: dict[str, float] = field(default_factory=dict)
    stopping: Stopping = field(default_factory=Stopping)
    failure: StrataError | None = None

    def add(self, record: RoundRecord) -> None:
        """Count one more round of the run."""
        for kind, scores in record.scores.items():
            self.headline, self.last[kind] = scores.measure.name, scores.value
            self.best[kind] = scores.measure.best([self.best.get(kind, scores.value), scores.value])
            self.worst_decile[kind] = scores.worst_decile
            if scores.hurt is not None:
                self.hurt[kind] = scores.hurt
            if scores.macro_f1 is not None:
                self.macro_f1[kind] = scores.macro_f1
            for name, value in (scores.measures or {}).items():
                self.measures.setdefault(name, {})[kind] = value
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
        self._add_async(record.metrics)
        self.privacy |= {name: record.metrics[key] for name, key in PRIVACY.items() if key in record.metrics}
        self.stopping.add(record)

    @property
    def stopped(self) -> str:
        """Why the run ended before its last round; empty where it did not."""
        return self.stopping.reason

    def _add_async(self, metrics: Mapping[str, float]) -> None:
        """Count what is told of servers that do not wait for all, where they do not."""
        self.stale += metrics.get(f"{ASYNC}stale", 0.0)
        self.idle_s += metrics.get(f"{ASYNC}idle_s", 0.0)
        for name, count in metrics.items():
            if name.startswith(STALENESS):
                self.counted += count
                self.staleness += count * int(name.removeprefix(STALENESS))

    def plain(self) -> dict[str, object]:
        """The summary as nested plain numbers, for sinks."""
        return {
            "last": self.last,
            "best": self.best,
            "worst_decile": self.worst_decile,
            **({"hurt": self.hurt} if self.hurt else {}),
            **({"macro_f1": self.macro_f1} if self.macro_f1 else {}),
            **({"headline": self.headline} if self.headline != ACCURACY else {}),
            **({"measures": self.measures} if self.measures else {}),
            "rounds": self.rounds,
            "virtual_s": self.virtual_s,
            "straggling_s": self.straggling_s,
            "bytes": self.bytes_total,
            "flops": self.flops,
            "wall_s": self.wall_s + self.agents_wall_s,
            **({} if (most := peak_bytes()) is None else {"peak_bytes": most}),
            **self._trends(),
            **self._survived(),
            **self._async(),
            **self.privacy,
            **({"stopped": self.stopped} if self.stopped else {}),
        }

    def _survived(self) -> dict[str, float]:
        """How many failures the run went on after, and what it took to start again; nothing where there were none."""
        if not self.failures:
            return {}
        return {"failures": len(self.failures), "recovery_wall_s": sum(one.seconds for one in self.failures)}

    def _async(self) -> dict[str, float]:
        """Of servers that do not wait for all: mean staleness of what counted, what was dropped, and idle seconds."""
        if not self.counted:
            return {}
        return {"staleness": self.staleness / self.counted, "stale": self.stale, "idle_s": self.idle_s}

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
