"""``python -m sparse_mrnn`` is the command ``sparse-mrnn``."""

from sparse_mrnn.cli import main

main()
