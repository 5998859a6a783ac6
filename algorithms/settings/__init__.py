"""Settings of methods that are run by a name of their own: ``strata run permfl_released``."""
