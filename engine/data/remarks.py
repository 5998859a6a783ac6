"""What readers say of what they chose."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Remarks:
    """Lines for people about how a set was read.

    Attributes:
        notes: choices that are usual; ``strata data`` prints them.
        cautions: what may be meant otherwise, and how to say so; every run warns of it.
    """

    notes: tuple[str, ...] = ()
    cautions: tuple[str, ...] = ()

    def noted(self, *lines: str) -> "Remarks":
        """The same with further notes."""
        return Remarks((*self.notes, *lines), self.cautions)

    def warned(self, *lines: str) -> "Remarks":
        """The same with further cautions."""
        return Remarks(self.notes, (*self.cautions, *lines))

    def __add__(self, other: "Remarks") -> "Remarks":
        """Both, those of ``other`` behind."""
        return Remarks(self.notes + other.notes, self.cautions + other.cautions)
