"""The numerical core: sparse patterns, products, activations and the recurrence. Knows no region names."""
