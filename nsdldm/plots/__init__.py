"""Draw the figures of the paper, one module a figure family."""

import os
import sys
from contextlib import suppress
from pkgutil import iter_modules

__all__ = [module.name for module in iter_modules(__path__)]

if "matplotlib" not in sys.modules:
    # A notebook names its backend to all programs that it starts, and matplotlib cannot be imported
    # where that backend is not installed. Nothing here needs it: figures are drawn by Agg.
    inherited = os.environ.pop("MPLBACKEND", None)
    import matplotlib

    if inherited:
        os.environ["MPLBACKEND"] = inherited
        with suppress(ValueError):
            matplotlib.rcParams["backend"] = inherited
