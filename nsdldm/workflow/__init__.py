"""For the Snakefile alone: settings, what to run, and what must hold before a run."""

from pkgutil import iter_modules

__all__ = [module.name for module in iter_modules(__path__)]
