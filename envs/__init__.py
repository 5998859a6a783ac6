"""Environments that wrap federated rounds, generic over every method that exports a control."""
