"""Environments that wrap federated rounds, generic over every method that exports a control.

Importing this package makes them known to gymnasium, as its own plugins do::

    import gymnasium
    import envs

    env = gymnasium.make("Strata/FederatedRounds-v0", method="hapfl", fidelity="timing")
"""

import gymnasium

gymnasium.register("Strata/FederatedRounds-v0", entry_point="envs.plain:FederatedRounds")
