"""Run a latent diffusion model: loading, schedulers, denoising, reconstruction."""

from pkgutil import iter_modules

__all__ = [module.name for module in iter_modules(__path__)]
