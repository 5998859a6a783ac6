"""Ray's processes on this machine, without those that no run needs."""
