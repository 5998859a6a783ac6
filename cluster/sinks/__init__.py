"""Where a run's records go: files, the terminal, Weights & Biases."""
