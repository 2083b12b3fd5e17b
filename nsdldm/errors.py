"""One form for everything that is wrong with an input."""

from contextlib import contextmanager
from dataclasses import dataclass


@dataclass(frozen=True)
class Finding:
    """What is wrong with one input, and what to do about it.

    Parameters
    ----------
    where : str
        The file, folder or config key at fault.
    expected, found : str
        What should be there, and what is.
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
    """Inputs that cannot be used; the message lists every finding, one a line."""

    def __init__(self, *findings):
        self.findings = findings
        super().__init__("\n".join(str(finding) for finding in findings))


@contextmanager
def reading(path, expected, remedy="Replace it by an intact copy"):
    """Report whatever goes wrong while a file is read as an `InputError` about that file.

    Only for blocks that do nothing but read `path`, since a damaged file makes the libraries raise
    anything from KeyError to zlib.error. Errors that the block raises as `InputError` pass.

    Parameters
    ----------
    path : str or Path
    expected : str
        What the file should be, such as "an HDF5 file".
    remedy : str
        What to do about a file that cannot be read.
    """
    try:
        yield
    except (InputError, MemoryError):
        raise
    except FileNotFoundError as error:
        restore = "Restore the file or correct the path"
        raise InputError(Finding(str(path), expected, "no such file", restore)) from error
    except Exception as error:
        reason = str(error).partition("\n")[0] or type(error).__name__
        found = f"one that cannot be read ({reason})"
        raise InputError(Finding(str(path), expected, found, remedy)) from error
