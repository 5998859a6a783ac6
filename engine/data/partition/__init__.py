"""How the samples of a data set are dealt to clients."""
