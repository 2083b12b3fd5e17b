"""Write the configuration's JSON schema and reference: ``make config-docs``.

Both come from `nsdldm.workflow.settings`, the schema for editors that check what is typed, the
reference for people.
"""

from __future__ import annotations

import json
import textwrap
from pathlib import Path

import yaml

from nsdldm.workflow.sentences import find_schema, say_allowed
from nsdldm.workflow.settings import DEMO

PROJECT = Path(__file__).resolve().parents[2]
SCHEMA = PROJECT / "schemas/config.schema.yaml"
PAGE = PROJECT / "docs/config.md"
# What a map's entries are called in the names of their keys.
ENTRY = "NAME"
HEAD = """# Every setting

Written by `make config-docs` from `nsdldm/workflow/settings.py`, where names, defaults and checks
stand.

## How a configuration is put together

From low to high:

1. the defaults below, those of NSD and Stable Diffusion 1.4;
2. with `dataset: demo`, which is the default, the demo's sizes (column *demo*);
3. `config.yaml`;
4. files given to `--configfile`, in their order;
5. `--config`, such as `--config figure_subject=subj02 'encoding={fdr: 0.01}'`.

A setting of a higher layer takes the place of that below, a list as a whole. Maps of named things
(`rois`, `trajectories.blocks` and `variants`, `decoding.targets`, `evaluation.networks`,
`trained.methods`, `feature_spaces`, `overrides`) add up entry by entry, and `name: null` removes an
entry that a lower layer brought; `{}` is an entry without settings of its own, such as a network
without weights. With `complete: true` the maps that are given hold all their entries.

Everything is checked before the first job: keys, types, bounds and what must go together, and what
a setting names (files, modules of the U-Net, functions, metrics, labels). Every problem is one
sentence ([bad_input.md](bad_input.md)).

* Whole numbers may be written as `5.0e2`, numbers as `1e-3`, which YAML takes for a text.
* `010`, which YAML reads as 8, and `1:30`, which it reads as 90, are refused. `yes`, `no`, `on` and
  `off` are true and false to YAML: where a text or a number is meant they are refused, so quote
  such a text.
* `~` and `$VARIABLES` in paths are expanded; a variable that is not set is refused.
* `null` is nothing: the meaning of each setting that may be null says what comes instead.
OLD
"""


def compose_schema() -> str:
    """Write the JSON schema.

    Returns
    -------
    str
        YAML. In files every setting may be left out.
    """
    head = "# Written by `make config-docs`; the settings stand in nsdldm/workflow/settings.py.\n"
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema"} | _allow_null(
        find_schema()
    )
    # No references between equal parts, which PyYAML would make of them.
    plain = json.loads(json.dumps(schema))
    return head + yaml.safe_dump(
        plain, sort_keys=False, allow_unicode=True, width=100, default_flow_style=None
    )


def _allow_null(part):
    """A schema in which an entry of a map may be null, and every setting left out."""
    if isinstance(part, list):
        return [_allow_null(each) for each in part]
    if not isinstance(part, dict):
        return part
    part = {
        key: value if key in ("default", "enum") else _allow_null(value)
        for key, value in part.items()
    }
    for key in ("patternProperties", "additionalProperties"):
        entries = part.get(key)
        if key == "patternProperties" and entries:
            part |= {key: {name: _or_null(own) for name, own in entries.items()}}
            part["additionalProperties"] = False
        elif isinstance(entries, dict) and key == "additionalProperties":
            part[key] = _or_null(entries)
    return part


def _or_null(part):
    return {"anyOf": [part, {"type": "null"}]}


def compose_page() -> str:
    """Write the reference.

    Returns
    -------
    str
        Markdown.
    """
    root = find_schema()
    sections = [("", root["properties"], "")]
    for name, part in root["properties"].items():
        if "properties" in part:
            sections.append((name, part["properties"], part["description"]))
    old = [f"`{before}` for `{name}`" for name, before in _list_old(root)]
    page = [HEAD.replace("OLD", _list_words("Names of before keep working:", old))]
    for name, keys, meaning in sections:
        page.append(f"## {name or 'The whole run'}\n")
        page += [f"{meaning}\n"] if meaning else []
        page.append("| key | default | demo | unit | allowed | meaning |")
        page.append("|---|---|---|---|---|---|")
        page += [_row(*each) for each in _list_rows(keys, name, not name)]
        page.append("")
    return "\n".join(page)


def _list_words(start, words):
    """A point of a list, in lines that fit."""
    text = f"* {start} {', '.join(words)}."
    return textwrap.fill(text, 100, subsequent_indent="  ", break_on_hyphens=False)


def _list_old(part, prefix=""):
    """Settings that had another name, with it."""
    for name, own in part.get("properties", {}).items():
        if "old" in own:
            yield f"{prefix}{name}", f"{prefix}{own['old']}"
        yield from _list_old(own, f"{prefix}{name}.")


def _list_rows(keys, prefix, top):
    """Dotted name and schema of each setting: of a section, of those in it and of maps' entries."""
    for name, part in keys.items():
        path = f"{prefix}.{name}" if prefix else name
        if "properties" in part:
            if not top:
                yield from _list_rows(part["properties"], path, False)
            continue
        yield path, part
        entry = _find_entry(part)
        if "properties" in entry:
            yield from _list_rows(entry["properties"], f"{path}.{ENTRY}", False)


def _find_entry(part):
    """Schema of a map's entries."""
    own = part.get("additionalProperties") or {}
    own = own or next(iter(part.get("patternProperties", {}).values()), {})
    return own if isinstance(own, dict) else {}


def _row(path, part):
    """A line of a table."""
    # An entry of a map has what is set and nothing else.
    default = "" if ENTRY in path.split(".") else _write(part.get("default"))
    cells = [f"`{path}`", default, _find_demo(path), part.get("unit", "")]
    cells += [_say(part), part["description"]]
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _say(part):
    """Allowed values; of a map those of its names and of its entries."""
    entry = _find_entry(part)
    if part.get("type") != "object" or not entry:
        return say_allowed(part)
    names = say_allowed({"type": "string"} | part.get("propertyNames", {}))
    entries = "" if "properties" in entry else f", each {say_allowed(entry)}"
    least = f", with at least {part['minProperties']} entries" if "minProperties" in part else ""
    return f"a map{least}, its names {names}{entries}"


def _write(value):
    """A default as YAML on one line."""
    text = yaml.safe_dump(value, default_flow_style=True, width=10**6, sort_keys=False)
    return f"`{text.removesuffix('...' + chr(10)).strip()}`"


def _find_demo(path):
    """What the demo's preset says of a setting."""
    value = DEMO
    for step in path.split("."):
        if not isinstance(value, dict) or step not in value:
            return "the first of subjects" if path == "trained.subjects" else ""
        value = value[step]
    return _write(value)


if __name__ == "__main__":
    SCHEMA.write_text(compose_schema(), encoding="utf-8")
    PAGE.write_text(compose_page(), encoding="utf-8")
