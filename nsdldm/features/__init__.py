"""Feature spaces of images: z, c, z_c, activations of the U-Net and of other networks."""

from pkgutil import iter_modules

__all__ = [module.name for module in iter_modules(__path__)]
