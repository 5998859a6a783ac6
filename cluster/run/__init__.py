"""Runs from beginning to end: sessions, checkpoints, signals, agents."""
