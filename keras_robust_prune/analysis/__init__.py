"""What a change would do: bounds, saliency, energy, statistics, certificates."""
