"""How much reconstructions look like the pictures that were shown."""

from pkgutil import iter_modules

__all__ = [module.name for module in iter_modules(__path__)]
