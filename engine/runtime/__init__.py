"""Where the tiers live: in this process, or in Ray actors on one machine or many."""

from strata.engine.runtime import ray_settings  # noqa: F401  # before Ray, which most modules here import
