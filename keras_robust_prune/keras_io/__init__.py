"""Between Keras and the graph: files, model to graph, graph to model."""
