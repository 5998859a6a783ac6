"""Environments that wrap federated rounds, generic over every method that exports a control.

Importing this package makes them known to gymnasium, as its own plugins do::

    import gymnasium
    import strata.envs

    env = gymnasium.make("Strata/FederatedRounds-v0", method="hapfl", fidelity="timing")
"""

import gymnasium

# To gymnasium, an environment is deterministic if a reset begins anew; here it goes on where the federation is.
gymnasium.register("Strata/FederatedRounds-v0", entry_point="strata.envs.plain:FederatedRounds", nondeterministic=True)
