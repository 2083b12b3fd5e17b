"""Numbers in the documentation are those of the tables beside it."""

import re
import runpy
from pathlib import Path

import pandas as pd
import pytest

PROJECT = Path(__file__).resolve().parents[2]
WRITER = runpy.run_path(str(PROJECT / "docs/numbers/write.py"))
PAGE = (PROJECT / "docs/demo.md").read_text(encoding="utf-8")


def test_tables_of_the_page_are_those_of_the_demo():
    assert WRITER["compose"](PAGE) == PAGE, "run python docs/numbers/write.py"


@pytest.mark.parametrize("name", WRITER["TABLES"])
def test_every_table_is_written(name):
    _, rows = PAGE.split(f"<!-- {name} -->\n\n")
    cut = PAGE.replace(rows, re.sub(r"[0-9]", "7", rows))
    assert WRITER["compose"](cut).split(f"<!-- {name} -->\n\n")[1].startswith(rows[:300])


def test_regions_show_what_the_simulation_says():
    table = pd.read_csv(PROJECT / "docs/numbers/encoding.tsv", sep="\t")
    r = table.set_index(["roi", "feature", "subject"])["median_r"].unstack()
    for better, worse, rois in (
        ("z", "c", ("early", "parietal")),
        ("c", "z", ("ventral", "lateral")),
    ):
        for roi in rois:
            assert (r.loc[roi, better] - r.loc[roi, worse] > 0.1).all()
    assert (r.loc["frontal"].abs() < 0.02).all(axis=None)


def test_numbers_have_a_real_minus():
    assert [WRITER["write"](x) for x in (-0.001, -0.251, 0.5)] == ["0.00", "−0.25", "0.50"]
