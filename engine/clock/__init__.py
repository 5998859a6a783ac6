"""The virtual clock: devices, networks, and how long a call takes."""
