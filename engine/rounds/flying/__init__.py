"""Calls that children are on, where their server does not wait for all of them."""
