"""What the toolkit knows of every layer type: how units pass it, what it costs, how it computes."""
