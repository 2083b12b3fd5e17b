"""Train the small latent diffusion model that ships with the project, from scratch."""

from pkgutil import iter_modules

__all__ = [module.name for module in iter_modules(__path__)]
