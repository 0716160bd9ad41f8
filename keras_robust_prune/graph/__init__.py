"""What a network is: layers with NumPy weights, their calls, and channel ids that pass through it."""
