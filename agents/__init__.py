"""RLlib policies that decide for federated methods: modules, learners, the training loop."""

import strata.engine.runtime  # noqa: F401  # before Ray, which most modules here import
