"""Sweeps: runs of one method under many settings, as trials of Ray Tune."""
