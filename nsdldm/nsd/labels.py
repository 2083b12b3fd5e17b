"""Names of an atlas' labels, and regions made from them. Standard library only, for the
preflight."""

from __future__ import annotations

import re
from pathlib import Path

from nsdldm.support.errors import Finding, InputError, Unexpected, reading

# Every voxel in an atlas' cortical ribbon, and every voxel with a label.
RIBBON, ALL = "ribbon", "all"
# Far more than any table has; a larger file is something else.
MOST_CHARACTERS = 1_000_000
# An int32 and a name; further fields are colours.
LINE = re.compile(r"\s*(-?[0-9]{1,9})\s+(\S+)(?:\s.*)?")
MOST_LISTED = 40


def read_label_table(path: Path | str) -> dict[int, str]:
    """Read the names of an atlas' labels.

    Parameters
    ----------
    path : str or Path
        Such as ``streams.mgz.ctab``: lines with a number and a name, separated and followed by
        white space; further fields (colours) are ignored, as are blank lines and comments.

    Returns
    -------
    dict of int to str
        A name may have several numbers, for instance if left and right are numbered separately.

    Raises
    ------
    InputError
        The file is missing, a line is not a number and a name, or a number occurs twice.
    """
    labels = {}
    with reading(path, "a label table, lines of a number and a name"):
        with open(path, encoding="utf-8-sig") as stream:
            text = stream.read(MOST_CHARACTERS + 1)
        if len(text) > MOST_CHARACTERS:
            raise Unexpected(f"more than {MOST_CHARACTERS} characters")
        for number, line in enumerate(text.split("\n"), 1):
            if not line.strip() or line.lstrip().startswith("#"):
                continue
            match = LINE.fullmatch(line)
            if match is None or not match[2].isprintable():
                raise Unexpected(f"{line[:40]!r} in line {number}")
            if int(match[1]) in labels:
                raise Unexpected(f"the number {match[1]} again in line {number}")
            labels[int(match[1])] = match[2]
    return labels


def parse_roi(name: str, parts: list[str]) -> list[tuple[str, str]]:
    """Parse the definition of a region.

    Parameters
    ----------
    name : str
        The region's name in the config.
    parts : list of str
        ``atlas:label`` each; the label is a name, a number, ``ribbon`` for every voxel of the
        atlas' cortical ribbon, or ``all`` for every voxel with a label.

    Returns
    -------
    list of (str, str)
        Atlas and label of each part.

    Raises
    ------
    InputError
        A part has another form.
    """
    pairs = [tuple(str(part).split(":")) for part in parts]
    for part, pair in zip(parts, pairs, strict=True):
        if len(pair) != 2 or not all(pair):
            remedy = "Write it like streams:early"
            raise InputError(Finding(f"`rois`.{name}", "atlas:label", repr(part), remedy))
    if not pairs:
        raise InputError(Finding(f"`rois`.{name}", "atlas:label", "nothing", "List at least one"))
    return pairs


def is_named(label: str) -> bool:
    """Whether a label is a name, which only a table can translate into numbers."""
    return label not in (RIBBON, ALL) and not label.isdecimal()


def find_labels(
    label: str, labels: dict[int, str | None], name: str, table: str | Path | None
) -> list[int | None]:
    """Find the numbers of a label.

    Parameters
    ----------
    label : str
        Name or number of a label.
    labels : dict of int to str or None
        As returned by `read_label_table`; None where there is no table.
    name : str
        The region that uses it.
    table : str or Path or None
        The file `labels` was read from.

    Returns
    -------
    list of int or None
        All numbers with this name; None for ``ribbon`` and ``all``.

    Raises
    ------
    InputError
        The table has no such label, or there is no table to look up a name in.
    """
    if label in (RIBBON, ALL):
        return None
    if labels is None:
        if label.isdecimal():
            return [int(label)]
        expected = "the number of a label, since no label table says its name"
        remedy = "Write the number, or all for every label of the atlas"
        raise InputError(Finding(f"`rois`.{name}", expected, repr(label), remedy))
    found = [number for number, known in labels.items() if label in (known, str(number))]
    if found:
        return found
    listed = ", ".join(f"{n} {known}" for n, known in sorted(labels.items())[:MOST_LISTED])
    if len(labels) > MOST_LISTED:
        listed += f" and {len(labels) - MOST_LISTED} more"
    expected = f"label {label!r}, which `rois`.{name} asks for"
    found = f"only {listed}" if labels else "no label"
    raise InputError(Finding(str(table), expected, found, f"Correct `rois`.{name}"))
