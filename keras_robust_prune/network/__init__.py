"""What a network is: reading it from Keras, its units, the rule of each layer type, rebuilding it."""
