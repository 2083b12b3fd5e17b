"""Trained decoders: masked autoencoders of responses that condition a diffusion model."""

from pkgutil import iter_modules

__all__ = [module.name for module in iter_modules(__path__)]
