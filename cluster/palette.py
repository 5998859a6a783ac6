"""Colours of all plots."""

BLUE, ORANGE, BAND, GRID, GREY = "#2563a8", "#e08a2c", "#e9edf3", "#d9dee6", "#5b6470"
