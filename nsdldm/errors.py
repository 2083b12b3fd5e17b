"""One form for everything that is wrong with an input."""

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
