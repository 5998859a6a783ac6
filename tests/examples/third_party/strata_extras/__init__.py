"""Six federated methods, each a file, written against what `strata.engine` exports."""
