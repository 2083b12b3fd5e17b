"""Say what is wrong with a configuration, in one sentence per problem."""

from __future__ import annotations

import datetime
import difflib
import re
from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING

from nsdldm.workflow.settings import Settings

if TYPE_CHECKING:
    from pydantic import ValidationError

TYPES = {
    "object": "a mapping",
    "array": "a list",
    "string": "a text",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "null": "nothing (null)",
}
BOUNDS = (
    ("minimum", "at least {}"),
    ("exclusiveMinimum", "above {}"),
    ("maximum", "at most {}"),
    ("exclusiveMaximum", "below {}"),
    ("maxLength", "of at most {} characters"),
    ("minProperties", "with at least {} keys"),
)
# Characters of a value that a sentence quotes.
LONGEST = 100


@cache
def find_schema() -> dict:
    """The JSON schema of the settings, with all references resolved.

    Returns
    -------
    dict
        Besides JSON Schema's keywords, a part may have `unit`, `words` (its pattern in words) and
        `old` (its key's former name).
    """
    schema = Settings.model_json_schema()
    return _inline(schema, schema.pop("$defs"))


def _inline(part, defined):
    """Resolve references in a part of a schema, and drop titles and the defaults of sections."""
    if isinstance(part, list):
        return [_inline(each, defined) for each in part]
    if not isinstance(part, dict):
        return part
    if "$ref" in part:
        named = defined[part["$ref"].rpartition("/")[2]]
        return _inline(
            named | {k: v for k, v in part.items() if k not in ("$ref", "default")}, defined
        )
    return {
        key: {name: _inline(own, defined) for name, own in value.items()}
        if key in ("properties", "patternProperties")
        else value
        if key in ("default", "enum", "const")
        else _inline(value, defined)
        for key, value in part.items()
        if key != "title"
    }


def name_path(path: Sequence[str | int]) -> str:
    """Write a place in a configuration.

    Parameters
    ----------
    path : sequence of str or int
        Keys, and positions in lists.

    Returns
    -------
    str
        Such as ``encoding.alphas[0]``.
    """
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{_name(part)}" for part in path)
    return text.lstrip(".") or "the configuration"


def _name(key):
    """A key in a sentence: as it is or, if it is odd, as Python writes it."""
    return key if re.fullmatch(r"[\w.-]{1,40}", key) else show(key)


def show(value: object) -> str:
    """Write a value of a configuration, shortened where it is long.

    Parameters
    ----------
    value : object

    Returns
    -------
    str
    """
    text = repr(value)
    return text if len(text) <= LONGEST else text[: LONGEST - 3] + "..."


def say_allowed(part: dict) -> str:
    """Describe the values that a part of the schema allows.

    Parameters
    ----------
    part : dict
        Of `find_schema`.

    Returns
    -------
    str
    """
    if "anyOf" in part:
        kinds = [say_allowed(own).removeprefix("one of ") for own in part["anyOf"]]
        return (", or " if any("," in kind for kind in kinds) else " or ").join(kinds)
    if "const" in part:
        return str(part["const"])
    if "enum" in part:
        return "one of " + ", ".join(map(str, part["enum"]))
    text = TYPES[part["type"]]
    if "items" in part:
        text += f", each {say_allowed(part['items'])}"
    if "words" in part:
        text += f" {part['words']}"
    return text + "".join(
        f", {words.format(_write(part[key]))}" for key, words in BOUNDS if key in part
    )


def _write(number):
    """A bound; whole numbers are written without a point."""
    return int(number) if number == int(number) else number


def describe(error: ValidationError, config: dict) -> list[str]:
    """Describe what pydantic found, once for each problem.

    Parameters
    ----------
    error : pydantic.ValidationError
    config : dict
        What was read.

    Returns
    -------
    list of str
    """
    found, told = {}, set()
    for each in error.errors(include_url=False):
        if each["type"] == "contradictions":
            return each["ctx"]["problems"]
        path, part = _follow(each["loc"])
        if each["type"] == "extra_forbidden":
            sentence = _say_unknown(path[:-1], config)
        elif each["type"] == "missing":
            given = ", ".join(map(_name, each["input"]))
            sentence = f"{name_path(path[:-1])} must have {path[-1]}, not only {given}."
        elif each["loc"][-1:] == ("[key]",):
            sentence = _say_key(path, part)
        else:
            value = _find(config, path)
            # The same value is equally wrong in every position of a list.
            if isinstance(path[-1], int) and (path[:-1], repr(value)) in told:
                continue
            told.add((path[:-1], repr(value)))
            sentence = _say_value(path, part, value, each["type"])
        found.setdefault(sentence, path)
    return sorted(found, key=lambda sentence: list(map(str, found[sentence])))


def _follow(place):
    """Path of an error in the configuration, and the part of the schema there.

    For a setting with several types, pydantic's path continues into each of them.
    """
    part, path, above = find_schema(), (), {}
    for step in place:
        kinds = [own for own in part.get("anyOf", ()) if own.get("type") != "null"]
        if len(kinds) == 1:
            part = kinds[0]
        elif kinds:
            break
        if step == "[key]":
            part = _find_keys(above)
            break
        above, path = part, (*path, step)
        if isinstance(step, int):
            part = part["items"]
        else:
            part = part.get("properties", {}).get(step) or _find_values(part)
    return path, part


def _find_values(part):
    """Schema of the entries of a map."""
    own = part.get("additionalProperties") or next(
        iter(part.get("patternProperties", {}).values()), {}
    )
    return own if isinstance(own, dict) else {}


def _find_keys(part):
    """Schema of the names in a map."""
    return {"type": "string"} | part.get("propertyNames", {})


def _find(config, path):
    for step in path:
        config = config[step]
    return config


def _say_unknown(path, config):
    """Name unknown keys of a section, and the key that was probably meant."""
    part, keys = find_schema(), {}
    for step in path:
        part = part.get("properties", {}).get(step) or _find_values(part)
    for name, own in part["properties"].items():
        keys |= {name: name} | ({own["old"]: name} if "old" in own else {})
    unknown = sorted(set(_find(config, path)) - set(keys))[:3]
    near = [keys[name] for key in unknown for name in _find_near(key, keys)]
    if not near:
        near = [name for key in unknown for name in _list_keys() if name.rpartition(".")[2] == key]
    where = f" in {name_path(path)}" if path else ""
    meant = f"did you mean {' and '.join(dict.fromkeys(near))}? The" if near else "the"
    allowed = ", ".join(sorted(part["properties"]))
    return (
        f"Unknown key {', '.join(map(_name, unknown))}{where}: {meant} allowed keys are {allowed}."
    )


def _find_near(key, keys):
    """The key probably meant, as a list: one that begins the same, or is spelled similarly."""
    starting = [name for name in keys if key and name.startswith(key)]
    return (starting or difflib.get_close_matches(key, keys, n=1))[:1]


@cache
def _list_keys():
    """Dotted names of all settings."""
    names, waiting = [], [("", find_schema())]
    while waiting:
        prefix, part = waiting.pop(0)
        for name, own in part.get("properties", {}).items():
            names.append(f"{prefix}{name}")
            waiting.append((f"{prefix}{name}.", own))
    return names


def _say_key(path, part):
    """A name that is not allowed in a map."""
    near = _find_near(path[-1], part.get("enum", ()))
    meant = f"did you mean {near[0]}? It" if near else "it"
    where = name_path(path[:-1])
    return f"Unknown key {_name(path[-1])} in {where}: {meant} must be {say_allowed(part)}."


def _say_value(path, part, value, kind):
    """A value that is not allowed for a setting."""
    allowed = say_allowed(part)
    if kind in ("repeats", "too_short") and isinstance(value, list):
        least = part.get("minItems", 0)
        allowed = (
            f"a list of at least {least} values" if least > 1 else "a list of at least one value"
        )
        allowed = f"{allowed} without repeats" if least else "a list without repeats"
    elif kind == "unset":
        allowed = "a path of variables that are set"
    return f"{name_path(path)} must be {allowed}, not {show(value)}{_hint(value, part)}."


def _hint(value, part):
    """Why a value differs from what was written, if YAML reads it as something else."""
    kinds = [own.get("type") for own in part.get("anyOf", (part,))]
    if isinstance(value, bool) and "boolean" not in kinds:
        words = "true, yes and on" if value else "false, no and off"
        return f", which YAML makes of {words}: write a text in quotes"
    if isinstance(value, int | float | datetime.date) and "string" in kinds:
        return ": write it in quotes"
    is_octal = isinstance(value, str) and re.fullmatch(r"[-+]?0[0-9]+", value)
    if is_octal and {"integer", "number"} & {*kinds}:
        return ": write it without leading zeros, which make a number octal"
    return ""
