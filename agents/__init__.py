"""RLlib policies that decide for federated methods: modules, learners, the training loop."""
