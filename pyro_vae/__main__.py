"""``python -m pyro_vae`` is ``pyro-vae``."""

import os
import sys

# Python puts the working directory first here, before all packages: a torch.py that lies there would be run.
if not sys.flags.safe_path and sys.path[:1] in ([""], [os.getcwd()]):
    del sys.path[0]

from pyro_vae.cli import main

sys.exit(main())
