"""Environments that wrap federated rounds, generic over every method that exports a control.

Importing this package makes two of them known to gymnasium, as its own plugins do::

    import gymnasium
    import strata.envs

    env = gymnasium.make("Strata/FederatedRounds-v0", method="hapfl", fidelity="timing")
    env = gymnasium.make("Strata/FederatedRoundsFlat-v0")  # as Stable-Baselines3 takes it
"""

import gymnasium

# To gymnasium, an environment is deterministic if a reset begins anew; here it goes on where the federation is.
gymnasium.register("Strata/FederatedRounds-v0", entry_point="strata.envs.plain:FederatedRounds", nondeterministic=True)
gymnasium.register("Strata/FederatedRoundsFlat-v0", entry_point="strata.envs.flat:FlatRounds", nondeterministic=True)
