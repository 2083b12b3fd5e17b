"""Diffusion models that make pictures of decoded features, and how each takes them."""

from pkgutil import iter_modules

__all__ = [module.name for module in iter_modules(__path__)]
