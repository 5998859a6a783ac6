"""Families of learners: what their modules are, what they minimise, and their settings in RLlib."""
