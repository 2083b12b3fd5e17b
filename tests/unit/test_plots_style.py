import json
import os
import re
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

import hostile_style
import matplotlib as mpl
import numpy as np
import pytest
from PIL import Image

from nsdldm.plots import style
from nsdldm.plots.style import journal_style, new_figure, pixels, save_figure, upper_limit


@pytest.mark.parametrize(
    ("values", "limit"),
    [
        ([0.31], 0.35),
        ([0.3], 0.3),
        ([np.nan, 0.12], 0.15),
        ([], 0.05),
        ([-0.2], 0.05),
        ([*np.full(999, 0.2), 0.9], 0.2),
    ],
)
def test_scales_end_at_the_next_step_above_nearly_all_values(values, limit):
    assert upper_limit(values) == pytest.approx(limit)


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    return hostile_style.draw(tmp_path_factory.mktemp("plain") / "drawn")


@pytest.mark.parametrize("name", hostile_style.FILES)
def test_a_matplotlibrc_changes_no_byte_of_a_figure(plain, name, tmp_path):
    figures = ("fig3", "fig5", "fig6")
    assert sorted(plain) == [f"{each}.{end}" for each in figures for end in ("pdf", "png", "tsv")]
    (tmp_path / "matplotlibrc").write_text(dedent(hostile_style.FILES[name]))
    with mpl.rc_context():
        mpl.rc_file(tmp_path / "matplotlibrc")
        assert hostile_style.draw(tmp_path / "drawn") == plain


def test_a_new_process_with_all_of_that_and_the_backend_of_a_notebook_draws_the_same(
    plain, tmp_path
):
    (tmp_path / "matplotlibrc").write_text("".join(map(dedent, hostile_style.FILES.values())))
    # As a notebook leaves it to the programs that it starts, in an environment without notebooks.
    environment = {**os.environ, "MPLBACKEND": "module://matplotlib_inline.backend_inline"}
    environment |= {"PYTHONPATH": os.pathsep.join(sys.path), "PYTHONHASHSEED": "1"}
    command = [sys.executable, hostile_style.__file__]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert not done.returncode, done.stderr
    assert json.loads(done.stdout) == plain


def test_only_one_module_makes_and_writes_figures():
    # Type hints may name a figure: these imports are indented, under TYPE_CHECKING.
    words = re.compile(
        r"pyplot|savefig|^from matplotlib\.figure|rcParams|rc_context|rcdefaults", re.M
    )
    sources = Path(style.__file__).parent.glob("*.py")
    using = {path.name for path in sources if words.search(path.read_text(encoding="utf-8"))}
    assert using == {"style.py", "__init__.py"}


def draw_text(*paths):
    with journal_style():
        figure = new_figure(pixels(180), 300)
        figure.text(0.1, 0.5, "text of $z_c$")
        save_figure(paths, figure)


def test_figures_have_their_printed_size_and_the_same_bytes(tmp_path):
    assert pixels(180) == 2126
    draw_text(tmp_path / "a.png", tmp_path / "a.pdf")
    draw_text(tmp_path / "b.png", tmp_path / "b.pdf")
    for suffix in ("png", "pdf"):
        a, b = ((tmp_path / f"{name}.{suffix}").read_bytes() for name in "ab")
        assert a == b
    with Image.open(tmp_path / "a.png") as image:
        assert image.size == (2126, 300)
        assert image.info["dpi"] == pytest.approx((300, 300), abs=0.1)


def test_pdfs_have_the_printed_size_and_text_as_text(tmp_path):
    draw_text(tmp_path / "a.pdf")
    written = (tmp_path / "a.pdf").read_bytes()
    # 2126 pixels of 1/300 inch in points of 1/72 inch.
    width, height = re.search(rb"/MediaBox \[ 0 0 ([0-9.]+) ([0-9.]+) \]", written).groups()
    assert (float(width), float(height)) == pytest.approx((510.24, 72))
    # TrueType outlines with names that tell characters, not shapes (type 3).
    assert b"/CIDFontType2" in written and b"/Type3" not in written
    assert b"/ToUnicode" in written
    assert b"Matplotlib" not in written and b"Date" not in written
