"""What ends a run before its last round: a target, virtual time, patience that is over, or a rule of the user's own."""

from collections.abc import Callable
from dataclasses import dataclass, field

from strata.engine.config.ending import StopConfig
from strata.engine.errors import StrataError
from strata.engine.rounds.records import RoundRecord, Scores

MAIN_MODEL = ("PM", "TM", "GM")  # the most personal kind of model that a method has is its main one

Rule = Callable[[RoundRecord], bool]
"""A rule of the user's own: given each round, once and in their order, it says whether the run ends with it."""


@dataclass
class Stopping:
    """Whether a run is to end. It follows from the rounds alone, so a run that is resumed ends where it would have.

    Attributes:
        config: target, virtual time and patience.
        rule: one of the user's own; None: there is none.
        reason: why the run ends; empty while it does not.
    """

    config: StopConfig = field(default_factory=StopConfig)
    rule: Rule | None = None
    reason: str = ""
    best: float | None = None
    waited: int = 0

    def add(self, record: RoundRecord) -> None:
        """Take one more round.

        Raises:
            StrataError: when the user's own rule raises something.
        """
        if self.reason:
            return
        kind = next((kind for kind in MAIN_MODEL if kind in record.scores), None)
        if kind is not None:
            self._evaluated(kind, record.scores[kind])
        if not self.reason and self.config.is_over(record.virtual_s):
            limit_s = self.config.virtual_s
            self.reason = f"the virtual clock, {record.virtual_s:.6g} s, has reached stop.virtual_s={limit_s:g}"
        if not self.reason and self.rule is not None and self._ruled(self.rule, record):
            self.reason = "the rule that was given says so"

    def _evaluated(self, kind: str, scores: Scores) -> None:
        plan, value, measure = self.config, scores.value, scores.measure
        rose = self.best is None or measure.better(value, self.best)
        self.best, self.waited = (value, 0) if rose else (self.best, self.waited + 1)
        for key, target in (("accuracy", plan.accuracy), ("target", plan.target)):
            if not self.reason and target and (value == target or measure.better(value, target)):
                self.reason = f"{kind} {measure.title} {value:.4f} has reached stop.{key}={target:g}"
        if not self.reason and plan.patience and self.waited >= plan.patience:
            moved = "fallen below" if measure.falls else "risen above"
            self.reason = f"{kind} {measure.title} has not {moved} {self.best:.4f} for {self.waited} evaluations"

    def _ruled(self, rule: Rule, record: RoundRecord) -> bool:
        try:
            return bool(rule(record))
        except Exception as error:  # a rule of the user's own may raise anything
            raise StrataError(
                f"round {record.round}: the stopping rule that was given raised {type(error).__name__}: {error}."
            ) from error
