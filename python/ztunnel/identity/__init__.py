"""Vouching: which certificate each identity has, when it is renewed, and who signs it."""
