"""Damaged files of the release give a result or one clear error, no crash, hang or gigabytes."""

import pytest
from hostile import READERS, attack

# A longer run: PYTHONPATH=.:tests/unit python -m hostile 1 2000
SLOW = ("stim-info", "stimuli", "nifti-betas", "surface-betas")


@pytest.mark.parametrize(
    ("n", "names"), [(60, [name for name in READERS if name not in SLOW]), (12, SLOW)]
)
def test_damaged_files_are_read_or_refused(n, names):
    assert attack(0, n, *names) == []
