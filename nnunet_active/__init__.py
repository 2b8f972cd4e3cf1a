"""Active, source-free domain adaptation for the stock nnU-Net."""

__version__ = "0.1.0"
