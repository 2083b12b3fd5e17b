import numpy as np
import pytest

from nsdldm.plots.outlines import find_room, innermost, name_regions, trace
from nsdldm.plots.style import journal_style, new_figure


def make_image(shape, *boxes):
    image = np.zeros(shape)
    for top, bottom, left, right in boxes:
        image[top:bottom, left:right] = 1
    return image


def test_an_outline_runs_half_way_between_inside_and_outside():
    (line,) = trace(make_image((60, 80), (10, 30, 20, 50)))
    np.testing.assert_allclose(line.min(axis=0), [19.5, 9.5])
    np.testing.assert_allclose(line.max(axis=0), [49.5, 29.5])


def test_dots_are_not_outlined_and_outlines_end_with_the_cortex():
    image = make_image((60, 80), (5, 7, 5, 7), (20, 40, 20, 60))
    image[:, 40:] = np.nan
    (line,) = trace(image)
    assert line[:, 0].max() <= 39 and not np.allclose(line[0], line[-1])


def test_innermost_is_the_middle_of_the_widest_part():
    inside = make_image((50, 60), (10, 31, 10, 31), (20, 22, 31, 60)) > 0
    assert innermost(inside) == (20, 20)


def test_the_nearest_room_is_found_and_detours_avoided():
    free = np.zeros((101, 101), bool)
    free[:, 70:] = True
    free[:, :20] = True
    nowhere = np.zeros_like(free)
    row, column = find_room(free, (11, 11), (50, 50), nowhere)
    assert row == 50 and column == 75
    crossed = nowhere.copy()
    crossed[:, 55:65] = True
    row, column = find_room(free, (11, 11), (50, 50), crossed)
    assert column <= 14
    assert find_room(nowhere, (11, 11), (50, 50), nowhere) == (50, 50)


@pytest.mark.parametrize("cramped", [False, True])
def test_names_overlap_neither_each_other_nor_regions_nor_data(cramped):
    shape = (500, 600)
    step = 40 if cramped else 90
    boxes = [(100 + step * k, 125 + step * k, 200, 300) for k in range(4)]
    names = ["early", "ventral", "lateral", "midparietal"]
    images = {n: make_image(shape, b) for n, b in zip(names, boxes, strict=True)}
    images["unseen"] = np.zeros(shape)
    taken = make_image(shape, (0, 500, 320, 600)) > 0
    with journal_style():
        axes = new_figure(600, 500).add_axes((0, 0, 1, 1))
        axes.set(xlim=(-0.5, 599.5), ylim=(499.5, -0.5))
        assert name_regions(axes, images, {*names, "unseen"}, taken) == set(names)
        assert name_regions(axes, images, set(), taken) == set()
        written = [text for text in axes.texts if text.get_text()]
        assert {text.get_text() for text in written} == set(names)
        boxes = [text.get_window_extent() for text in written]
    covered = np.logical_or.reduce([taken, *(image > 0.5 for image in images.values())])
    for number, box in enumerate(boxes):
        assert not any(box.overlaps(other) for other in boxes[:number])
        top, bottom = 500 - box.y1, 500 - box.y0
        assert top >= 0 and bottom <= 500 and box.x0 >= 0
        assert not covered[int(top) : int(bottom), int(box.x0) : int(box.x1)].any()
