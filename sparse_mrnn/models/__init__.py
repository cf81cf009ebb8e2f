"""The networks: torch modules that own parameters and keep mRNNTorch's names."""
