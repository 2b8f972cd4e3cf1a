"""What every part of the package uses: errors, atomic writes, locks, the processes of a distributed training."""
