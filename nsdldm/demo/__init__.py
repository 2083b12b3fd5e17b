"""Write a simulated release in the exact format of the Natural Scenes Dataset."""

from pkgutil import iter_modules

__all__ = [module.name for module in iter_modules(__path__)]
