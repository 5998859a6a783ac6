"""Schedules of somebody's own."""

from strata.engine.rounds.schedules import Waiting


class Constant(Waiting):
    """A deadline."""

    def __init__(self, limit_s):
        self.limit_s = limit_s

    def closes_s(self, seconds, moment):
        return self.limit_s


class Patient(Waiting):
    """Waits at first for the fastest alone, and by so much longer in each exchange; it counts its exchanges."""

    def __init__(self, longer=0.1):
        self.longer, self.exchanges = longer, 0

    def closes_s(self, seconds, moment):
        self.exchanges += 1
        return min(seconds) * (1 + self.longer * self.exchanges)

    def remembered(self):
        return {"exchanges": self.exchanges}

    def remember(self, kept):
        self.exchanges = kept["exchanges"]
