"""Write results in the forms of other tools."""

from pkgutil import iter_modules

__all__ = [module.name for module in iter_modules(__path__)]
