"""Names of an atlas' labels, and regions made of them. Standard library only, for the preflight."""

from nsdldm.errors import Finding, InputError, reading

RIBBON = "ribbon"


def read_label_table(path):
    """Read the names of an atlas' labels.

    Parameters
    ----------
    path : str or Path
        Such as ``streams.mgz.ctab``: lines of a number and a name, separated and followed by any
        white space; further fields (colours) are ignored, as are blank lines and comments.

    Returns
    -------
    dict of int to str

    Raises
    ------
    InputError
        The file is missing, or a line is not a number and a name, or a number comes twice.
    """
    labels = {}
    with reading(path, "a label table"):
        with open(path, encoding="utf-8") as stream:
            lines = stream.read().splitlines()
        for line in lines:
            fields = line.split()
            if not fields or fields[0].startswith("#"):
                continue
            if len(fields) < 2 or int(fields[0]) in labels:
                raise ValueError(f"line {line!r} is not a new number and its name")
            labels[int(fields[0])] = fields[1]
    return labels


def parse_roi(name, parts):
    """Take apart the definition of a region.

    Parameters
    ----------
    name : str
        The region's name in the config.
    parts : list of str
        ``atlas:label`` each; the label is a name, a number, or ``ribbon`` for every voxel of the
        atlas' cortical ribbon.

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
            raise InputError(Finding(f"rois.{name}", "atlas:label", repr(part), remedy))
    if not pairs:
        raise InputError(Finding(f"rois.{name}", "atlas:label", "nothing", "List at least one"))
    return pairs


def find_label(label, labels, name, table):
    """Find the number of a label.

    Parameters
    ----------
    label : str
        Name or number of a label.
    labels : dict of int to str
        As returned by `read_label_table`.
    name : str
        The region that asks for it.
    table : str or Path
        The file `labels` was read from.

    Returns
    -------
    int or None
        None for ``ribbon``.

    Raises
    ------
    InputError
        The table has no such label.
    """
    if label == RIBBON:
        return None
    for number, known in labels.items():
        if label in (known, str(number)):
            return number
    listed = ", ".join(f"{number} {known}" for number, known in sorted(labels.items()))
    expected = f"label {label!r}, which rois.{name} asks for"
    raise InputError(Finding(str(table), expected, f"only {listed}", f"Correct rois.{name}"))
