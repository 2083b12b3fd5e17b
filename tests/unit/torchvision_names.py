"""The names of torchvision that timm imports, for machines without a build for their torch."""

import importlib
import sys
from enum import Enum
from importlib.machinery import ModuleSpec
from types import ModuleType

from torch import nn

MODULES = ("", ".datasets", ".models", ".ops", ".ops.misc", ".transforms", ".transforms.functional")
MODES = ("nearest", "nearest_exact", "bilinear", "bicubic", "box", "hamming", "lanczos")


class FrozenBatchNorm2d(nn.Module):
    """Only ever compared with."""


def stand_in(monkeypatch):
    """Put empty modules where torchvision would be; networks use none of it."""
    for name in MODULES:
        module = ModuleType(f"torchvision{name}")
        module.__path__, module.__spec__ = [], ModuleSpec(module.__name__, None)
        # Classes of data sets and of changes of pictures.
        module.__getattr__ = _make_class
        monkeypatch.setitem(sys.modules, module.__name__, module)
        parent, _, own = module.__name__.rpartition(".")
        if parent:
            setattr(sys.modules[parent], own, module)
    modes = Enum("InterpolationMode", {mode.upper(): mode for mode in MODES})
    sys.modules["torchvision.transforms.functional"].InterpolationMode = modes
    sys.modules["torchvision.ops.misc"].FrozenBatchNorm2d = FrozenBatchNorm2d


def _make_class(name):
    if name.startswith("__"):
        raise AttributeError(name)
    return type(name, (), {})


def import_timm(monkeypatch):
    """timm, or None where it is not installed."""
    try:
        return importlib.import_module("timm")
    except ImportError as error:
        if error.name != "torchvision":
            return None
    stand_in(monkeypatch)
    return importlib.import_module("timm")
