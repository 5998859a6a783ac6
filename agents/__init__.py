"""RLlib policies that decide for federated methods: modules, learners, the training loop."""

from strata.engine.runtime import ray_settings  # noqa: F401  # before Ray, which most modules here import
