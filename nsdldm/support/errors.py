"""One form for everything that can be wrong with an input."""

from __future__ import annotations

import os
import re
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

# Environment variable with the caller's names for the arguments of functions: JSON by name of the
# script, or without a name for all scripts.
CALLED = "NSDLDM_ARGUMENTS"


@dataclass(frozen=True)
class Finding:
    """What is wrong with an input, and what to do about it.

    Arguments of functions are named in backticks.

    Parameters
    ----------
    where : str
        The file, folder or argument at fault.
    expected, found : str
        What should be there, and what was found.
    remedy : str
        What the user can do, as an imperative sentence without a full stop.
    """

    where: str
    expected: str
    found: str
    remedy: str

    def __str__(self):
        return f"{self.where}: expected {self.expected}, found {self.found}. {self.remedy}."


class InputError(ValueError):
    """Unusable inputs; the message lists every finding, one per line."""

    def __init__(self, *findings):
        self.findings = findings
        super().__init__("\n".join(str(finding) for finding in findings))


def write_arguments(text: str, names: dict[str, str]) -> str:
    """Replace the arguments in a message by the reader's names for them.

    Parameters
    ----------
    text : str
        With arguments in backticks.
    names : dict of str to str
        New names; arguments without one keep their own.

    Returns
    -------
    str
        Without backticks.
    """
    return re.sub(r"`(\w+)`", lambda found: names.get(found[1], found[1]), text)


class Unexpected(ValueError):
    """Raised while a file is read; the message says what was found."""


class Damaged(Unexpected):
    """The same, if part of an intact file is lost or changed."""


INTACT = "Replace it by an intact copy"
OTHER_FILE = "Put the right file there"
REMAKE = "Delete it and run the same command again, which recreates it"
# What libraries say about damaged files, and what it means; {0} is the pattern's group.
SAYINGS = (
    (r"eof = (\d+),.*stored_eof = (\d+)", "truncated after {0} of {1} bytes"),
    (r"unable to lock file", "its file system refuses the lock that was asked for"),
    (r"file signature not found", "no HDF5 file"),
    (r"object '(.*?)' doesn't exist", "nothing named {0}"),
    (r"too many (?:soft )?links", "a link that leads to itself"),
    (r"open object \(can't open file", "a link to another file that cannot be opened"),
    (r"matlab v7.3", "a file of MATLAB 7.3"),
    (r"Not a gzipped|incorrect header check|file ended before|CRC check", "damaged compression"),
    (r"Cannot work out file type", "neither NIfTI nor MGH"),
    (r"Expected (\d+) fields in line (\d+), saw (\d+)", "{2} fields instead of {0} in line {1}"),
    (r"EOF inside string", "a quote that never ends"),
    (r"No columns to parse", "nothing in it"),
    (r"not a valid JSON|^Expecting |^Unterminated |^Extra data", "damaged JSON"),
    (r"no file named (\S+\.safetensors)", "no {0}"),
    (r"weights from checkpoint file|deserializing header", "damaged or truncated weights"),
    (
        r"(\S+) expected shape torch.Size\(\[(.*?)\]\), but got torch.Size\(\[(.*?)\]\)",
        "{0} of shape ({2}) instead of ({1})",
    ),
)
# Those of them that an intact file of another kind causes.
OTHERS = re.compile(
    r"signature not found|object '.*?' doesn't exist|too many (soft )?links|can't open file"
    r"|matlab v7.3",
    re.IGNORECASE,
)
# The same for types of errors whose own message says less.
KINDS = (
    (UnicodeDecodeError, "not text in UTF-8"),
    (RecursionError, "nested too deeply"),
    (zlib.error, "damaged compression"),
    (IsADirectoryError, "a folder"),
    (PermissionError, "no permission to read it"),
    (MemoryError, "it claims more data than fit into memory"),
)


def explain(error: Exception) -> str:
    """Say in a few words why a file could not be read.

    Parameters
    ----------
    error : Exception
        The exception that a library raised.

    Returns
    -------
    str
        One line of at most 200 characters.
    """
    for kind, words in KINDS:
        if isinstance(error, kind):
            return words
    text = str(error)
    for pattern, words in SAYINGS:
        if match := re.search(pattern, text):
            return words.format(*match.groups())
    if isinstance(error, OSError) and error.errno:
        return os.strerror(error.errno).lower()
    line = text.strip().partition("\n")[0] or type(error).__name__
    printable = "".join(letter if letter.isprintable() else "?" for letter in line)
    return printable if len(printable) <= 200 else printable[:197] + "..."


def _advise(error, remedy):
    """What to do about a file that could not be read; an intact copy only helps if it is
    damaged."""
    if "unable to lock file" in str(error):
        return "Unset HDF5_USE_FILE_LOCKING, which asks for locks"
    if isinstance(error, PermissionError):
        return "Make it readable for you"
    if isinstance(error, IsADirectoryError):
        return "Correct the path"
    # Libraries that object to the content of a file give no errno.
    if isinstance(error, OSError) and error.errno is not None:
        return "See whether its file system is in order, then run the same command again"
    if remedy is None:
        other = isinstance(error, Unexpected | UnicodeDecodeError) or OTHERS.search(str(error))
        return OTHER_FILE if other and not isinstance(error, Damaged) else INTACT
    return remedy


@contextmanager
def reading(
    path: Path | str, expected: str, remedy: str | None = None, small: bool = False
) -> Iterator[None]:
    """Report whatever goes wrong while reading a file as an `InputError` about that file.

    Only for blocks that do nothing except read `path`, since a damaged file makes libraries raise
    anything from KeyError to zlib.error. An `InputError` raised in the block passes through; the
    message of an `Unexpected` says what was found.

    Parameters
    ----------
    path : str or Path
    expected : str
        What the file should be, such as "an HDF5 file".
    remedy : str, optional
        What to do about a file with other content, instead of replacing it.
    small : bool
        An intact file is so small that a lack of memory must be the file's fault. Otherwise,
        `MemoryError` passes through.
    """
    try:
        yield
    except InputError:
        raise
    except FileNotFoundError as error:
        restore = "Restore the file or correct the path"
        raise InputError(Finding(str(path), expected, "no such file", restore)) from error
    except Exception as error:
        if isinstance(error, MemoryError) and not small:
            raise
        found = f"one that cannot be read ({explain(error)})"
        if isinstance(error, Unexpected):
            found = str(error)
        raise InputError(Finding(str(path), expected, found, _advise(error, remedy))) from error
