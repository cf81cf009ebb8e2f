"""From a graph to synapses: the random streams, the sampling of each projection, and lowering to one sparse matrix."""
