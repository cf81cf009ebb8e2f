"""What several tests use."""


def values_of(weights, name):
    """A projection's values, by its (source, target, key)."""
    source, target, key = name
    return weights.projection_values(source=source, target=target, key=key)
