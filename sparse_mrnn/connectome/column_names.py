"""Names by which columns of edges and of neurons are recognised."""

from __future__ import annotations

import re

SOURCES = (
    "pre_root_id", "pre_pt_root_id", "bodyid_pre", "body_pre", "source", "src", "pre", "from", "pre_id",
    "source_id", "source_node_id", "from_node_id", "presynaptic", "pre_neuron", "presynaptic_id",
    "from_id", "pre_body_id", "source_node", "from_node", "presynaptic_neuron", "source_neuron", "sender",
    "pre_skid", "presynaptic_skid", "neuron_1", "origin",
)  # fmt: skip
TARGETS = (
    "post_root_id", "post_pt_root_id", "bodyid_post", "body_post", "target", "tgt", "dst", "post", "to",
    "post_id", "target_id", "target_node_id", "to_node_id", "postsynaptic", "post_neuron", "postsynaptic_id",
    "to_id", "post_body_id", "target_node",
    "to_node", "postsynaptic_neuron", "target_neuron", "receiver", "dest", "post_skid", "postsynaptic_skid",
    "neuron_2",
)  # fmt: skip
WEIGHTS = (
    "syn_count", "weight", "n_syn", "synapses", "synapse_count", "count", "n_synapses", "number", "nsyn",
    "strength", "weights", "num_synapses", "number_of_synapses", "nbr",
    "number_of_connections",
)  # fmt: skip
IDS = (
    "root_id", "bodyid", "body", "pt_root_id", "id", "neuron_id", "node_id", "neuron", "name", "cell", "unit",
    "cell_id", "skid",
)  # fmt: skip
"""Column names that are recognised, in this order, in any case and with or without blanks between words."""
NUMBERED = ("id", "index", "rownames", "row", "unnamed0", "level0")
"""Column names, as `plain_name` writes them, of numbers of rows, which are not weights."""


def plain_name(name: str) -> str:
    """Write a column's name as it is recognised: letters and digits in lower case.

    >>> plain_name(" Pre Root-ID "), plain_name("pre_root_id")
    ('prerootid', 'prerootid')
    """
    return re.sub(r"[^a-z0-9]", "", name.lower())
