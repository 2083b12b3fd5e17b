"""Draw the figures of the paper, with one module per family of figures."""

import os
import sys
from contextlib import suppress
from pkgutil import iter_modules

__all__ = [module.name for module in iter_modules(__path__)]

if "matplotlib" not in sys.modules:
    # A notebook passes its backend on to all programs that it starts, and matplotlib cannot be
    # imported if that backend is not installed. Nothing here needs it: figures are drawn by Agg.
    inherited = os.environ.pop("MPLBACKEND", None)
    import matplotlib

    if inherited:
        os.environ["MPLBACKEND"] = inherited
        with suppress(ValueError):
            matplotlib.rcParams["backend"] = inherited
