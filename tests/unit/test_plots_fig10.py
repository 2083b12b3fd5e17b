import numpy as np
import pandas as pd
import pytest
from beyond_files import (
    ABSENT,
    DEPTH,
    GIVEN,
    METHODS,
    PIXELS,
    SUBJECTS,
    TWO_WAY,
    value,
    write_beyond,
)
from matplotlib.colors import to_hex
from reconstruction_files import save
from test_plots_decoding import check_print, keep_figure, said

from nsdldm.evaluation.beyond import tabulate_beyond
from nsdldm.plots import fig10
from nsdldm.plots.fig10 import GROUPS, LINES, choose_limits, label_method, name_score, plot_fig10
from nsdldm.support.errors import InputError
from nsdldm.support.files import load_table

TOP, LEFT = "Identification, demo-judge", "16 × 16 correlation"


def draw(table, folder, patch, **changes):
    kept = keep_figure(patch, fig10)
    outputs = {suffix: folder / f"fig10.{suffix}" for suffix in ("png", "pdf", "tsv")}
    given = {"methods": METHODS, "metrics": [TWO_WAY, PIXELS, ABSENT], "given": GIVEN}
    plot_fig10(**{"table": table, "demo": True} | given | outputs | changes)
    return kept[0], load_table(outputs["tsv"]), outputs["png"]


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    folder = tmp_path_factory.mktemp("beyond")
    ceilings = dict.fromkeys(("zci", "zci-rescaled", "true-zci"), "true-zci")
    how = {"ceilings": ceilings, "dataset": "demo", "table": folder / "beyond.tsv"}
    tabulate_beyond(**write_beyond(folder), **how)
    return folder / "beyond.tsv"


@pytest.fixture(scope="module")
def drawn(path, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        return draw(path, tmp_path_factory.mktemp("fig10"), patch)


def panels(figure):
    """Axes by the heading above them."""
    places = {}
    for axes in figure.axes:
        box = axes.get_position()
        for text in figure.texts:
            x, y = text.get_position()
            up = (y - box.y1) * figure.bbox.height
            if text.get_weight() == "bold" and abs(x - box.x0) < 1e-6 and 0 < up < 60:
                places[text.get_text()] = axes
    return places


def points(axes):
    """Value, place, colour of the edge and whether filled, of every symbol."""
    return [
        (
            line.get_xdata()[0],
            line.get_ydata()[0],
            to_hex(line.get_color()),
            line.get_markerfacecolor() != "white",
        )
        for line in axes.lines
        if line.get_marker() in fig10.MARKERS and len(line.get_xdata())
    ]


def levels(axes, name):
    """Level of each row's line of `LINES`, by row."""
    found = {}
    for each in axes.collections:
        if each.get_label() == LINES[name][1]:
            (low, high) = each.get_segments()[0]
            assert low[0] == high[0] and high[1] - low[1] == 1
            found[(low[1] + high[1]) / 2] = low[0]
    return found


def test_figure_10_is_a_journal_figure(drawn):
    figure, _, path = drawn
    check_print(figure, path)
    words = said(figure)
    for wanted in ("simulated data (demo)", "Not computed: clip.", "150 test images", "chance"):
        assert wanted in words
    for wanted in ("$z$ + $c$ + image, rescaled", "zci-rescaled", "prior + $c$ + image"):
        assert wanted in words
    for wanted in ("nearest training image", "true $z$ + $c$ + image", "of 860 to 863 images"):
        assert wanted in words
    assert list(panels(figure)) == [TOP, LEFT, "Retrieval, top 1", "Captions", "Depth"]


def test_the_table_holds_what_is_drawn(drawn, path):
    _, table, _ = drawn
    everything = load_table(path)
    drawn_rows = everything[
        (everything["data"] == "demo") & ~everything["score"].str.contains("-top5-")
    ]
    assert len(table) == len(drawn_rows) and set(table["data"]) == {"demo"}
    made = table[table["kind"] == "reconstruction"]
    assert list(dict.fromkeys(made["score"])) == [TWO_WAY, PIXELS]
    assert list(dict.fromkeys(made["method"])) == list(METHODS)


@pytest.mark.parametrize(("heading", "metric"), [(TOP, TWO_WAY), (LEFT, PIXELS)])
def test_symbols_are_where_the_numbers_are(drawn, heading, metric):
    axes = panels(drawn[0])[heading]
    found = {(subject, round(y)): x for x, y, *_ in points(axes) for subject in [y % 1 < 0.5]}
    assert len(found) == len(METHODS) * len(SUBJECTS)
    for row, method in enumerate(METHODS):
        # The first subject is above the middle of a row, whose number the axis has upside down.
        assert found[False, row] == pytest.approx(value("subj01", method, metric), abs=1e-5)
        assert found[True, row] == pytest.approx(value("subj02", method, metric), abs=1e-5)
    assert axes.get_ylim()[0] > axes.get_ylim()[1]
    ends = [each.get_segments()[0] for each in axes.collections if each.get_label().startswith("_")]
    whiskers = [tuple(end[:, 0]) for end in ends if end[0, 1] == end[1, 1]]
    wanted = [value(s, m, metric) for m in METHODS for s in SUBJECTS]
    assert len(whiskers) == len(wanted)
    for found, each in zip(whiskers, wanted, strict=True):
        assert found == pytest.approx((each - 0.03, each + 0.03), abs=1e-5)


def test_colours_tell_what_is_added(drawn):
    colours = {round(y): colour for _, y, colour, _ in points(panels(drawn[0])[TOP])}
    expected = ["paper"] * 3 + ["added"] * 5 + ["none"] + ["true"] * 2
    assert [colours[row] for row in range(len(METHODS))] == [
        to_hex(GROUPS[group][0]) for group in expected
    ]


def test_levels_are_drawn_in_their_rows(drawn):
    axes = panels(drawn[0])[LEFT]
    assert levels(axes, "chance") == pytest.approx(dict.fromkeys(range(len(METHODS)), 0.21))
    assert levels(axes, "floor") == pytest.approx(dict.fromkeys(range(len(METHODS)), 0.43))
    ceilings = levels(axes, "ceiling")
    assert len(ceilings) == len(METHODS) - 1
    for row, method in enumerate(METHODS):
        if method == "nearest":
            continue
        true = "true-zci" if method in ("zci", "zci-rescaled", "true-zci") else "true-zc"
        expected = np.mean([value(subject, true, PIXELS) for subject in SUBJECTS])
        assert ceilings[row] == pytest.approx(expected, abs=1e-5)
    lines = [line for line in axes.lines if line.get_linewidth() == 2.4]
    expected = np.mean([value(subject, "zc", PIXELS) for subject in SUBJECTS])
    assert [line.get_xdata()[0] for line in lines] == pytest.approx([expected], abs=1e-5)


def test_filled_and_open_symbols_share_rows(drawn):
    places = panels(drawn[0])
    found = points(places["Retrieval, top 1"])
    assert len(found) == 2 * 4 * len(SUBJECTS)
    first = {x: filled for x, y, _, filled in found if round(y) == 0}
    assert first == {0.48: False, 0.5: False, 0.58: True, 0.6: True}
    found = points(places["Captions"])
    first = {x: filled for x, y, _, filled in found if round(y) == 0}
    assert first == {0.28: False, 0.3: False, 0.38: True, 0.4: True}
    # Levels of the filled symbols alone.
    chance = levels(places["Captions"], "chance")
    assert chance == pytest.approx({0: 0.2, 1: 0.25, 2: 0.6, 3: 0.2})
    assert len(points(places["Depth"])) == len(DEPTH) * len(SUBJECTS)


def test_nothing_drawn_lies_outside_its_axes(drawn):
    for axes in panels(drawn[0]).values():
        low, high = axes.get_xlim()
        for name in LINES:
            assert all(low < x < high for x in levels(axes, name).values())
        ends = [path[:, 0] for each in axes.collections for path in each.get_segments()]
        assert low < np.min(np.concatenate(ends)) and np.max(np.concatenate(ends)) < high


def test_one_subject_and_reconstructions_alone(path, tmp_path, monkeypatch):
    table = load_table(path)
    table = table[(table["subject"] == "subj01") & (table["kind"] == "reconstruction")]
    save(tmp_path / "one.tsv", table)
    changes = {"methods": ["zc", "zci"], "metrics": [PIXELS], "demo": False}
    figure, numbers, png = draw(tmp_path / "one.tsv", tmp_path, monkeypatch, **changes)
    check_print(figure, png)
    assert list(panels(figure)) == [LEFT] and len(numbers) == 2
    assert {y for _, y, *_ in points(panels(figure)[LEFT])} == {0, 1}
    words = said(figure)
    assert "simulated" not in words and "Not computed" not in words and "Retrieval" not in words
    for other in ("no generator", "captions", "depth", "Lower row"):
        assert other not in words
    legend = [text.get_text() for text in figure.axes[-1].get_legend().get_texts()]
    assert legend[:3] == ["subj01", "decoded $z$ and $c$", "with added targets"]


def test_eight_subjects_have_rows_of_their_own_height(path, tmp_path, monkeypatch):
    table = load_table(path)
    one = table[(table["data"] == "demo") & (table["subject"] == "subj01")]
    many = pd.concat([one.assign(subject=f"subj{number:02}") for number in range(1, 9)])
    save(tmp_path / "many.tsv", many)
    figure, _, png = draw(tmp_path / "many.tsv", tmp_path, monkeypatch, methods=METHODS[:4])
    check_print(figure, png)
    found = points(panels(figure)[TOP])
    places = sorted(y for _, y, *_ in found)
    assert len(places) == 8 * 4 and np.diff(places).min() > 0.05


def test_several_targets_are_told_apart(path, tmp_path, monkeypatch):
    table = load_table(path)
    own = table["kind"].isin(["retrieval", "caption"])
    both = pd.concat([table, table[own].assign(method="clip-text")])
    save(tmp_path / "both.tsv", both[both["data"] == "demo"])
    figure, _, png = draw(tmp_path / "both.tsv", tmp_path, monkeypatch, methods=["zc"])
    check_print(figure, png)
    for wanted in ("Image, clip-vision", "Image, clip-text", "Brain, clip-text"):
        assert wanted in said(figure)


def test_methods_are_described_by_what_they_are_given():
    assert label_method("z", None) == ("$z$", "", "paper")
    assert label_method("zc", None) == ("$z$ + $c$", "$z_c$", "paper")
    assert label_method("true-zc", None)[2] == "true"
    assert label_method("a", {"image": "clip-vision"}) == ("image", "a", "added")
    given = {"generator": "adapter", "from": None, "text": "captions", "strength": 0.5}
    assert label_method("b", given) == ("caption", "b", "added")
    given = {"from": "latents", "depth": "depth-map", "pooled": "clip", "ceiling": True}
    assert label_method("e", given) == ("true latents + pooled text + depth", "e", "true")


def test_metrics_of_one_network_have_panels_of_their_own(path, tmp_path, monkeypatch):
    table = load_table(path)
    other = table[table["score"] == TWO_WAY].assign(score="2way:demo-judge:early", value=0.75)
    save(tmp_path / "two.tsv", pd.concat([table, other]))
    changes = {"metrics": [TWO_WAY, "2way:demo-judge:early"], "methods": ["zc", "zci"]}
    figure, numbers, _ = draw(tmp_path / "two.tsv", tmp_path, monkeypatch, **changes)
    upper = [axes for axes in figure.axes if axes.get_ylim() == (1.5, -0.5)][:2]
    assert [round(points(axes)[0][0], 3) for axes in upper] == [
        round(value("subj01", "zc", TWO_WAY), 3),
        0.75,
    ]
    assert (numbers["kind"] == "reconstruction").sum() == 8


def test_scores_have_names():
    assert name_score("clip") == "Identification, CLIP"
    assert name_score("swav") == "SwAV distance (lower is better)"
    assert name_score("2way:clip:image_embeds") == "Identification, clip"
    assert name_score("psm:clip:h6") == "PSM (clip, h6)"
    assert name_score("rougeL") == "ROUGE-L"


def test_limits_include_everything():
    numbers = pd.DataFrame({name: [np.nan] for name in fig10.NUMBERS} | {"value": [0.5]})
    low, high = choose_limits(numbers)
    assert low < 0.5 < high
    low, high = choose_limits(numbers.assign(chance=0.1, ceiling=1.0))
    assert low == pytest.approx(0.055) and high == pytest.approx(1.045)


def test_metrics_that_were_not_computed_are_refused(path, tmp_path, monkeypatch):
    with pytest.raises(InputError, match=r"values of clip for .*found none"):
        draw(path, tmp_path, monkeypatch, metrics=[ABSENT])
    table = load_table(path).drop(columns="ceiling")
    save(tmp_path / "short.tsv", table)
    with pytest.raises(InputError, match="no ceiling"):
        draw(tmp_path / "short.tsv", tmp_path, monkeypatch)
