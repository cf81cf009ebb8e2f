"""From a graph to synapses: random streams, sampling of each projection, lowering to one sparse matrix."""
