import numpy as np
import pytest
from PIL import Image

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


def test_figures_have_their_printed_size_and_the_same_bytes(tmp_path):
    assert pixels(180) == 2126
    for name in ("a.png", "b.png"):
        with journal_style():
            figure = new_figure(pixels(180), 300)
            figure.text(0.5, 0.5, "text")
            save_figure(tmp_path / name, figure)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    with Image.open(tmp_path / "a.png") as image:
        assert image.size == (2126, 300)
        assert image.info["dpi"] == pytest.approx((300, 300), abs=0.1)
