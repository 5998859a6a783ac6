"""The decisions that methods leave to agents."""
