"""Read a configuration, and fill in what is not given from `nsdldm.workflow.settings`.

The layers, from low to high, are the defaults, the demo's preset (for the demo) and the user's
settings. No heavy imports, since every job does this.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterable
from itertools import islice
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Literal, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError

from nsdldm.trained.presets import OPTIONAL, PRESETS, RENAMED, STAGES
from nsdldm.workflow.datasets import SIMULATED
from nsdldm.workflow.sentences import describe, name_path, show
from nsdldm.workflow.settings import LAID, Settings

# More than any sensible configuration has. A few lines of YAML references can be huge or endless.
LARGEST = 1e15
DEEPEST = 20
MOST_VALUES = 100_000
MOST_PROBLEMS = 10
# In nested values, Snakemake's --config passes only texts.
NOTHING = (None, "null", "~")
NUMBER = re.compile(r"[-+]?(0|[1-9][0-9]*|(?=\.[0-9]))(\.[0-9]*)?([eE][-+]?[0-9]+)?")
NAME = re.compile("[A-Za-z][A-Za-z0-9-]{0,59}")
# Numbers that YAML 1.1 reads in an unexpected way: octal, and minutes and seconds.
MISREAD = re.compile(r"[-+]?(0[0-7_]+|[1-9][0-9_]*(:[0-5]?[0-9])+)")


class SettingsError(ValueError):
    """A configuration that cannot be used.

    Parameters
    ----------
    problems : list of str
        One sentence for each, naming the key.
    """

    def __init__(self, problems):
        self.problems = problems
        super().__init__("\n".join(problems))


def load_settings(config: dict, files: Iterable[Path | str] = ()) -> dict:
    """Complete and check a configuration.

    Parameters
    ----------
    config : dict
        As Snakemake read it from files and command line.
    files : iterable of path
        These files, to find numbers in them that YAML reads as others.

    Returns
    -------
    dict
        All settings, as plain values under their current names. Loading it again changes nothing.

    Raises
    ------
    SettingsError
    """
    problems = list(islice(_find_unusable(config), MOST_PROBLEMS))
    problems = problems or [*find_misread(files), *_rename(config, Settings, given := {})]
    if problems:
        raise SettingsError(problems)
    layers = _list_defaults(Settings)
    dataset = given.get("dataset", layers["dataset"])
    for preset in LAID.get(dataset, []) if isinstance(dataset, str) else []:
        layers = _lay(layers, preset, Settings)
    if dataset in SIMULATED:
        layers = _lay(layers, _choose_trained(given, layers["subjects"]), Settings)
    whole = str(given.get("complete")).lower() == "true"
    merged = _lay(layers, given, Settings, whole)
    read = _read(merged, Settings)
    _read_stages(read["trained"])
    try:
        return Settings.model_validate(read).model_dump()
    except ValidationError as error:
        raise SettingsError(describe(error, merged)) from None


def _choose_trained(given, subjects):
    """A simulated dataset trains decoders of the first subject, whichever that is."""
    asked = given.get("subjects", subjects)
    first = asked[0] if isinstance(asked, list) and asked else None
    usable = isinstance(first, str) and NAME.fullmatch(first)
    return {"trained": {"subjects": [first]} if usable else {}}


def _find_unusable(config):
    """Yield a sentence for each part that is not plain data, which no setting can be."""
    waiting = [((), config)]
    for _ in range(MOST_VALUES):
        if not waiting:
            return
        path, value = waiting.pop()
        parts = ()
        if isinstance(value, dict):
            parts = list(value.items())
        elif isinstance(value, list):
            parts = list(enumerate(value))
        elif isinstance(value, int | float) and not -LARGEST <= value <= LARGEST:
            found = show(value) if isinstance(value, float) else "one of more digits"
            bounds = f"from {-LARGEST:g} to {LARGEST:g}"
            yield f"{name_path(path)} must be a number {bounds}, not {found}."
        if len(path) >= DEEPEST and parts:
            yield f"{name_path(path[:3])} must be nested less deeply."
            continue
        for key, part in reversed(parts):
            if isinstance(key, str) or isinstance(value, list):
                waiting.append(((*path, key), part))
            else:
                hint = ", which YAML makes of yes, on, no and off" if isinstance(key, bool) else ""
                yield f"{name_path(path)} must have texts as keys, not {show(key)}{hint}."
    yield f"The configuration must have fewer than {MOST_VALUES} values."


def find_misread(files: Iterable[Path | str]) -> list[str]:
    """Find whole numbers that YAML 1.1 misreads: it takes 010 for 8, and 1:30 for 90.

    Parameters
    ----------
    files : iterable of path
        Configurations in YAML.

    Returns
    -------
    list of str
        A sentence for each.
    """
    return [problem for file in files for problem in _misread_in(file)]


def _misread_in(file):
    with open(file, encoding="utf-8") as stream:
        waiting = [((), yaml.compose(stream, yaml.SafeLoader))]
    while waiting:
        path, node = waiting.pop()
        if isinstance(node, yaml.MappingNode):
            waiting += [((*path, key.value), value) for key, value in reversed(node.value)]
        elif isinstance(node, yaml.SequenceNode):
            waiting += [((*path, n), value) for n, value in reversed(list(enumerate(node.value)))]
        elif (
            isinstance(node, yaml.ScalarNode)
            and node.style is None
            and MISREAD.fullmatch(node.value)
        ):
            way = "as one number" if ":" in node.value else "without a leading zero"
            yield (
                f"{name_path(path)} must be written {way}, or in quotes if a text is meant, not "
                f"{node.value}, which YAML reads as {yaml.safe_load(node.value)}."
            )


def _rename(config, model, renamed, path=()):
    """Copy a configuration under current names; yield what is given under two names."""
    old = {
        (field.json_schema_extra or {}).get("old"): name
        for name, field in model.model_fields.items()
    }
    for key, value in config.items():
        name = old.get(key, key)
        if name != key and name in config:
            yield (
                f"{name_path((*path, key))} must be left out, since {name_path((*path, name))}, "
                "its new name, is given too."
            )
        field = model.model_fields.get(name)
        if field and _is_section(field.annotation):
            if not isinstance(value, list | dict) and value in NOTHING:
                continue  # An empty section changes nothing.
            if isinstance(value, dict):
                renamed[name] = {}
                yield from _rename(value, field.annotation, renamed[name], (*path, name))
                continue
        renamed[name] = value


def _is_section(kind):
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def _list_defaults(model):
    """The defaults of a section and of its subsections."""
    return {
        name: _list_defaults(field.annotation)
        if _is_section(field.annotation)
        else field.get_default()
        for name, field in model.model_fields.items()
    }


def _lay(below, above, model, whole=False):
    """Apply settings on top of others; entries of maps are added to those below, or removed by
    null.

    If the upper maps are `whole`, only the other settings come from below.
    """
    laid = below | above
    for name, field in model.model_fields.items():
        under, over = below.get(name), above.get(name, {})
        if not isinstance(over, dict):
            continue
        if _is_section(field.annotation):
            laid[name] = _lay(under, over, field.annotation, whole)
            # The commit of another model is useless.
            if "path" in over and "revision" in under:
                laid[name]["revision"] = over.get("revision")
        elif get_origin(field.annotation) is dict:
            entries = over if whole and name in above else _merge(under, over)
            laid[name] = {key: own for key, own in entries.items() if own not in NOTHING}
    return laid


def _merge(below, above):
    """As Snakemake merges configurations."""
    if not (isinstance(below, dict) and isinstance(above, dict)):
        return above
    return below | {key: _merge(below.get(key), value) for key, value in above.items()}


def _read(value, kind):
    """Convert a value to its setting's type, if YAML or the command line wrote it in another form.

    If a setting is not a text, texts of numbers, true, false and null are converted; whole numbers
    may be written as 5.0e2, and numbers without a point. Anything else is left as it is, to be
    refused.
    """
    origin, parts = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return _read(value, parts[0])
    if origin in (Union, UnionType):
        return _read_one_of(value, parts)
    if isinstance(value, dict):
        if _is_section(kind):
            fields = kind.model_fields
            return {
                key: _read(own, fields[key].annotation) if key in fields else own
                for key, own in value.items()
            }
        if origin is dict:
            return {key: _read(own, parts[1]) for key, own in value.items()}
    if isinstance(value, list) and origin is list:
        return [_read(each, parts[0]) for each in value]
    return _read_scalar(value, kind)


def _read_stages(trained):
    """Convert the settings of trained decoders to the types of their presets."""
    methods = trained.get("methods") if isinstance(trained, dict) else None
    for name, own in methods.items() if isinstance(methods, dict) else ():
        preset = PRESETS.get(str(own.get("preset", name))) if isinstance(own, dict) else None
        for stage in STAGES if preset else ():
            if isinstance(own.get(stage), dict):
                own[stage] = dict(_read_stage(own[stage], preset[stage]))


def _read_stage(given, known):
    """Current names, and values of the types that a preset's stage has."""
    for key, value in given.items():
        name = RENAMED.get(key, key)
        kind = type(OPTIONAL.get(name, known.get(name)))
        # Given under both names, it is refused.
        yield (key if name in given else name), _read(value, kind)


def _read_one_of(value, kinds):
    """The same for a setting that may have several types: the first that fits."""
    if NoneType in kinds and value in NOTHING:
        return None
    for kind in kinds:
        known = get_args(kind) if get_origin(kind) is Literal else ()
        if value in known:
            return value
        read = _read(value, kind)
        if repr(read) != repr(value):
            return read
    return value


def _read_scalar(value, kind):
    if kind is bool and isinstance(value, str):
        return {"true": True, "false": False}.get(value.lower(), value)
    if kind not in (int, float) or isinstance(value, bool | NoneType | datetime.date):
        return value
    if isinstance(value, str) and NUMBER.fullmatch(value) and abs(float(value)) <= LARGEST:
        value = float(value)
    if isinstance(value, int | float):
        if kind is float:
            return float(value)
        return int(value) if value == int(value) else value
    return value
