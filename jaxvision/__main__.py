"""`python -m jaxvision` is the command `jaxvision`."""

import sys

from jaxvision.cli import main

sys.exit(main())
