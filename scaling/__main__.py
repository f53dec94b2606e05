"""`python -m scaling`: the command line where a program wants a module, as torchrun does."""

import os
import sys

from scaling.cli import main

if __name__ == "__main__":
    try:
        main()
    except SystemExit as end:
        if int(os.environ.get("WORLD_SIZE", "1")) == 1:
            raise
        # One of several: all work is done, but torch's own threads may abort the interpreter's shutdown.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(end.code if isinstance(end.code, int) else int(end.code is not None))
