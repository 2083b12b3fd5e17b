"""Sentences follow from numbers."""

import numpy as np
import pytest

from nsdldm.evaluation.readings import read_row

ROW = {"case": "shared", "score": "z", "value": 0.83, "low": 0.8, "high": 0.86, "chance": 0.5}


def test_above_chance_with_the_way_to_the_ceiling():
    expected = "Above chance: 0.83 (0.80 to 0.86; chance 0.50), 71 % of the way to the ceiling."
    assert read_row(ROW | {"normalised": 0.712}) == expected
    assert read_row(ROW | {"normalised": np.nan}) == expected.partition(", 71")[0] + "."
    assert read_row(ROW) == expected.partition(", 71")[0] + "."


@pytest.mark.parametrize(
    ("low", "high", "words"),
    [
        (0.5001, 0.9, "Above"),
        (0.5, 0.9, "Not above"),
        (0.1, 0.5, "Not above"),
        (0.1, 0.49, "Below"),
    ],
)
def test_the_interval_decides(low, high, words):
    assert read_row(ROW | {"low": low, "high": high}).startswith(f"{words} chance: 0.83")


def test_a_correlation_that_changes_sign_changes_the_sentence():
    row = ROW | {"score": "r", "value": 0.1, "low": 0.05, "high": 0.15, "chance": 0.0}
    assert read_row(row) == "Above 0: 0.10 (0.05 to 0.15)."
    other = row | {"value": -0.1, "low": -0.15, "high": -0.05}
    assert read_row(other) == "Below 0: −0.10 (−0.15 to −0.05)."
    assert read_row(row | {"low": -0.05}) == "Not above 0: 0.10 (−0.05 to 0.15)."


def test_shares_are_not_compared_with_chance():
    row = ROW | {
        "score": "z-category-share",
        "value": 0.5,
        "low": 0.4,
        "high": 0.62,
        "chance": np.nan,
    }
    expected = (
        "50 % (40 to 62 %) of the margin above chance is lost among images of the same group."
    )
    assert read_row(row) == expected
    lost = row | {"value": -0.1, "low": -0.2, "high": 0.004}
    assert read_row(lost).startswith("−10 % (−20 to 0 %) of the margin")
    voxels = row | {"score": "share_fwe", "low": np.nan, "high": np.nan}
    assert read_row(voxels) == "50 % of voxels are significant family-wise."


def test_unknown_numbers_are_said_to_be_unknown():
    assert read_row(ROW | {"value": np.nan}) == "Not known."
    row = ROW | {"low": np.nan, "high": np.nan}
    assert read_row(row) == "0.83 (chance 0.50); whether it is above chance is not known."
    assert read_row(row | {"chance": np.nan}).startswith("0.83; whether")
