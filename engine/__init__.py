"""The simulator: tiers, rounds, clock, delays, data, models, checkpoint and configuration.

It knows no algorithm by name. Start at :mod:`strata.engine.federation`.
"""
