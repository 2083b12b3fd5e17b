"""Functions that a configuration names."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Sequence

from nsdldm.support.errors import Finding, InputError


def find_function(
    where: str, function: str, settings: dict, positional: Sequence[str] = ("device",)
) -> Callable:
    """Import the function of a dotted name, and check that it takes its settings.

    Parameters
    ----------
    where : str
        Argument that holds the name and the settings, for messages.
    function : str
        Dotted name.
    settings : dict
        Keyword arguments.
    positional : sequence of str
        What it is called with before them.

    Returns
    -------
    callable

    Raises
    ------
    InputError
        There is no such function, or it does not take these settings.
    """
    module, _, name = function.rpartition(".")
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        expected, remedy = "the dotted name of a function", "Correct it"
        raise InputError(Finding(f"{where}.function", expected, str(error), remedy)) from error
    try:
        inspect.signature(found).bind(*positional, **settings)
    except TypeError as error:
        expected = f"settings that {function} takes"
        finding = Finding(f"{where}.settings", expected, str(error), "Correct them")
        raise InputError(finding) from error
    return found
