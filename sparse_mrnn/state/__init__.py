"""Description, digest and files of a network and its state."""
