"""Recordings of steps, and what makes their replays fast."""
