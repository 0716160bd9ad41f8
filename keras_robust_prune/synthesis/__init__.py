"""Inputs made without data, and the activations that a network has on inputs."""
