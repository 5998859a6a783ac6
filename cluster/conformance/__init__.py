"""What every method owes the engine, as checks that run on any method: ``strata check``, and the tests of Strata."""
