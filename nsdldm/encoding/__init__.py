"""Voxel-wise encoding models: fits, and everything computed from their predictions."""

from pkgutil import iter_modules

__all__ = [module.name for module in iter_modules(__path__)]
