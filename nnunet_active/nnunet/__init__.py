"""The adapters of nnU-Net: its folders, networks, sliding window and checkpoints."""
