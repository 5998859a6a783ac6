"""TODO cluster.palette."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    pass

BLUE, ORANGE, BAND, GRID, GREY = "#2563a8", "#e08a2c", "#e9edf3", "#d9dee6", "#5b6470"
