"""Ridge decoders: predict features of images from the responses to them."""

from pkgutil import iter_modules

__all__ = [module.name for module in iter_modules(__path__)]
