"""The subcommands of ``strata``."""
