"""Architectures, as hashable specifications that build them."""
