"""One importer a file; each makes the tables that `sparse_mrnn.connectome.assemble` turns into a graph."""
