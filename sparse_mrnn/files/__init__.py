"""Files of any kind: replaced atomically, tensors with a JSON header, JSON."""
