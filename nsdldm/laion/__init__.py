"""Read LAION-fMRI directly from the files of its release."""

from pkgutil import iter_modules

__all__ = [module.name for module in iter_modules(__path__)]
