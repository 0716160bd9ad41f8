"""Proofs: bounds of a network, of a pair of networks, and certificates."""
