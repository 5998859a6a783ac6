"""What is due between two rounds: a checkpoint, or nothing, so that the next one may begin before this one's ends."""

from strata.cluster.run.profiling import Profile
from strata.cluster.run.stopping import Stopping
from strata.engine.clock.delays import is_due
from strata.engine.config.ending import StopConfig
from strata.engine.config.schema import RunConfig
from strata.engine.rounds.records import RoundRecord

SHORT_S = 1.0
"""Wall seconds of rounds that go ahead: who interrupts waits for two of them, and of longer ones little is saved."""


def is_saved(config: RunConfig, record: RoundRecord, before_s: float, last: bool) -> bool:
    """Whether a checkpoint is due after a round, given the virtual clock before it, and whether it is the last."""
    plan = config.checkpoint
    if last:
        return bool(plan.every or plan.every_s)
    return _is_saved_by_number(config, record.round) or is_due(plan.every_s, before_s, record.virtual_s)


def is_followed(config: RunConfig, round: int, stopping: Stopping, spent: Profile) -> bool:
    """Whether a short round is followed by another one whatever comes of it, and nothing is asked between them."""
    if not spent.rounds or spent.rounds[-1].wall_s > SHORT_S or round >= config.rounds:
        return False
    may_end = stopping.config != StopConfig() or stopping.rule is not None
    return not may_end and not config.checkpoint.every_s and not _is_saved_by_number(config, round)


def _is_saved_by_number(config: RunConfig, round: int) -> bool:
    every = config.checkpoint.every
    return bool(every) and round % every == 0
