"""The ``stop`` part of the configuration."""

from dataclasses import dataclass

from strata.engine.options import option


@dataclass(frozen=True)
class StopConfig:
    """The group ``stop``: what ends a run before its last round: its main model (PM, else TM, else GM), or time."""

    accuracy: float = option(
        0.0, "end once the mean test accuracy of the main model is at least this; 0: never", ge=0, le=1
    )
    target: float = option(
        0.0, "the same by the measure of the task: RMSE at most this, accuracy or macro-F1 at least; 0: never", ge=0
    )
    virtual_s: float = option(
        0.0,
        "end with the round in which the virtual clock reaches so many seconds; it is evaluated. rounds remains the "
        "most that there are; 0: never",
        ge=0,
    )
    patience: int = option(0, "end once that measure has not become better for so many evaluations; 0: never", ge=0)

    def is_over(self, virtual_s: float) -> bool:
        """Whether the run's virtual time is spent once its clock shows so many seconds."""
        return 0 < self.virtual_s <= virtual_s
