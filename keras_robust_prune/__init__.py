"""Structured, robustness-aware pruning of trained Keras networks, without their training data."""
