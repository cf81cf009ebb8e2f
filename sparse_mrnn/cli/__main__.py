from sparse_mrnn.cli import main

main()
