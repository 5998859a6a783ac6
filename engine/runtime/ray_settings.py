"""What Ray reads from the environment when it is imported. Import this module first.

Only who holds the cluster's token may run code on it, unless the user says RAY_AUTH_MODE=disabled; a fractional or zero
GPU share must not change what actors see of the machine's variables. And the actors of a local Ray are what the machine
is there for: Ray would let whatever else runs go first.
"""

import os
import sys

if "ray" not in sys.modules:
    os.environ.setdefault("RAY_AUTH_MODE", "token")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_worker_niceness", "0")
