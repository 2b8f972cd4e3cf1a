"""``python -m nnunet_active``: the command line, for ``torchrun -m`` and for machines where the script is not on the path."""

import sys

from nnunet_active.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
