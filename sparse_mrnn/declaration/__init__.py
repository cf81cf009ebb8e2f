"""Declaration of a network: a graph of regions and projections, rules, initialisers, configurations."""
