"""The pruner: steps, result, checkpoint, stopping criteria."""
