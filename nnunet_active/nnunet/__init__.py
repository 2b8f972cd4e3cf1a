"""The adapters to nnU-Net: its folders, networks, sliding window and checkpoints."""
