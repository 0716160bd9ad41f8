"""One rule per layer type: how values pass it, how a unit passes it, how it is cut."""
