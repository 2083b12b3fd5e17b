"""Shared by all stages: errors, logs, files, devices, hubs, resuming."""

from pkgutil import iter_modules

__all__ = [module.name for module in iter_modules(__path__)]
