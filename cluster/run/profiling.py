"""Where the wall seconds of a run's rounds went: a table for people, and ``profile.json`` in the run's folder."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rich.table import Table

from strata.cluster.humanise import humanise_seconds
from strata.cluster.run.recovery import Survived
from strata.engine.rounds.records import RoundRecord
from strata.engine.stopwatch import AGENTS, PARTS, TRACKING, Seconds

PROFILE = "profile.json"


@dataclass(frozen=True)
class RoundProfile:
    """One round: its number, its wall seconds from its beginning until its checkpoint was written, and their parts."""

    round: int
    wall_s: float
    parts: Seconds


def profiled(record: RoundRecord, tracked_s: float) -> RoundProfile:
    """The profile of a round, given the wall seconds that tracking took beyond those of its record."""
    parts = {AGENTS: 0.0, **record.seconds}
    parts[TRACKING] += tracked_s
    return RoundProfile(record.round, sum(parts.values()), {part: parts[part] for part in PARTS})


@dataclass
class Profile:
    """Where wall seconds went, of the rounds that this process has run; those before a resume are not among them.

    Attributes:
        started: wall seconds of the start, by what was done; some of it side by side.
        rounds: in their order.
        survived: failures that the run went on after; what starting again took is in no round.
    """

    started: Seconds
    rounds: list[RoundProfile] = field(default_factory=list)
    survived: Sequence[Survived] = ()

    def add(self, record: RoundRecord, tracked_s: float) -> None:
        """Take one more round, and the wall seconds from its record until its checkpoint was written.

        They are 0 where the next round goes on meanwhile.
        """
        self.rounds.append(profiled(record, tracked_s))

    @property
    def wall_s(self) -> float:
        """Wall seconds of all rounds."""
        return sum(one.wall_s for one in self.rounds)

    def totals(self) -> dict[str, float]:
        """Wall seconds of all rounds by part."""
        return {part: sum(one.parts[part] for one in self.rounds) for part in PARTS}

    def plain(self) -> dict[str, object]:
        """All of it as JSON holds it: totals, means per round and shares of the parts, the start, round by round."""
        count, wall_s = max(1, len(self.rounds)), self.wall_s
        parts = {
            part: {"total_s": seconds, "per_round_s": seconds / count, "share": seconds / wall_s if wall_s else 0.0}
            for part, seconds in self.totals().items()
        }
        by_round = [{"round": one.round, "wall_s": one.wall_s, "parts": dict(one.parts)} for one in self.rounds]
        return {
            "rounds": len(self.rounds),
            "wall_s": wall_s,
            "parts": parts,
            "start_s": dict(self.started),
            "recoveries": [{"round": s.round, "back_to": s.back_to, "wall_s": s.seconds} for s in self.survived],
            "by_round": by_round,
        }

    def write(self, run_dir: Path) -> None:
        """Write ``profile.json``.

        Raises:
            OSError: when it cannot be written.
        """
        (run_dir / PROFILE).write_text(json.dumps(self.plain(), indent=1) + "\n", encoding="utf8")

    def table(self) -> Table:
        """What an average round's wall seconds went into."""
        count, wall_s = max(1, len(self.rounds)), self.wall_s
        title = f"wall time of {len(self.rounds)} rounds: {humanise_seconds(wall_s)}"
        table = Table(title=title, title_justify="left")
        table.add_column("part")
        for heading in ("per round", "share"):
            table.add_column(heading, justify="right")
        for part, seconds in self.totals().items():
            table.add_row(part, humanise_seconds(seconds / count), f"{seconds / wall_s if wall_s else 0:.1%}")
        table.add_section()
        table.add_row("all", humanise_seconds(wall_s / count), "")
        return table

    def start(self) -> str:
        """What the start took, in a line."""
        return "start: " + ", ".join(f"{what} {humanise_seconds(taken)}" for what, taken in self.started.items())

    def recoveries(self) -> str:
        """What starting again took, in a line; empty where nothing was lost."""
        taken = humanise_seconds(sum(one.seconds for one in self.survived))
        count = len(self.survived)
        return f"starting again: {count} time{'s' * (count > 1)}, {taken}" if count else ""
