"""What every room uses: errors, whole writes, locks, the processes of a distributed training."""
