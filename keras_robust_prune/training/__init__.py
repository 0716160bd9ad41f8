"""The Keras shell: the wrapper that holds a mask, the callback and the pruner."""
