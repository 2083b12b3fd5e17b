import h5py
import numpy as np
import pandas as pd
import pytest
from nesting import nest
from PIL import Image
from reconstruction_files import (
    METHODS,
    NUMBERS,
    PSM,
    SUBJECTS,
    best_sample,
    colour,
    save,
    score,
    seen_colour,
    write_all,
)

from nsdldm.plots import fig3, fig4, fig5, pictures
from nsdldm.plots.fig5 import bootstrap_mean, collect_numbers, plot_fig5
from nsdldm.plots.pictures import (
    Showing,
    best_samples,
    choose_images,
    describe_best,
    describe_choice,
    fit_picture,
    rank_samples,
    read_pictures,
    wrap_text,
)
from nsdldm.plots.style import journal_style
from nsdldm.support.errors import InputError
from nsdldm.support.files import load_table

SHOWN = "subject nsd_id rank group method sample samples metric value"
RANKED = sorted(NUMBERS, reverse=True)  # by score
NETWORKS = {"demo-clip": ("early", "embedding"), "demo-judge": ("features",)}
WAYS = [f"2way:{network}:{layer}" for network, layers in NETWORKS.items() for layer in layers]
CHANCE = (0.49, 0.47, 0.51)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return write_all(tmp_path_factory.mktemp("reconstructions"))


def keep_figure(patch, module):
    """List that receives the figure a module saves."""
    kept, save_figure = [], module.save_figure
    patch.setattr(module, "save_figure", lambda path, f: kept.append(f) or save_figure(path, f))
    return kept


def draw_fig3(files, folder, patch, methods=("z", "c", "zc"), n_images=4, **changes):
    kept = keep_figure(patch, fig3)
    own = {
        name: {method: files[name]["subj01", method] for method in methods}
        for name in ("reconstructions", "samples")
    }
    given = {"subject": "subj01", "best_by": PSM, "shown_images": n_images, "demo": True, **own}
    given |= {"stimuli": files["stimuli"], "images": files["images"]["subj01"]}
    outputs = {suffix: folder / f"fig3.{suffix}" for suffix in ("png", "pdf", "tsv")}
    fig3.plot_fig3(**nest(given | outputs | changes, showing=Showing))
    return kept[0], load_table(outputs["tsv"]), outputs["png"]


def draw_fig4(files, folder, patch, n_images=1, subjects=SUBJECTS, **changes):
    kept = keep_figure(patch, fig4)
    own = {
        name: {subject: files[name][subject, "zc"] for subject in subjects}
        for name in ("reconstructions", "samples")
    }
    own["images"] = {subject: files["images"][subject] for subject in subjects}
    given = {"stimuli": files["stimuli"], "best_by": PSM, "shown_images": n_images, "demo": False}
    outputs = {suffix: folder / f"fig4.{suffix}" for suffix in ("png", "pdf", "tsv")}
    fig4.plot_fig4(**nest(given | own | outputs | changes, showing=Showing))
    return kept[0], load_table(outputs["tsv"]), outputs["png"]


def colours_of(figure):
    """Colour in the middle of each picture and its place, row by row from the upper left."""
    shown = []
    for axes in figure.axes:
        for image in axes.get_images():
            array = np.asarray(image.get_array())
            box = axes.get_position()
            middle = array[len(array) // 2, len(array) // 2]
            shown.append((round(-box.y1, 3), round(box.x0, 3), tuple(map(int, middle))))
    shown.sort()
    rows = {}
    for y, _, middle in shown:
        rows.setdefault(y, []).append(middle)
    return list(rows.values())


def words_of(figure):
    texts = [*figure.texts]
    for axes in figure.axes:
        texts += axes.texts
        if axes.axison:
            texts += [axes.title, axes.xaxis.label, axes.yaxis.label]
            low, high = axes.get_xlim()
            # Ticks beyond the ends have labels too, which are not drawn.
            texts += [
                text for text in axes.get_xticklabels() if low <= text.get_position()[0] <= high
            ]
        if axes.get_legend():
            texts += axes.get_legend().get_texts()
    return [text for text in texts if text.get_text()]


def said(figure):
    return " ".join(text.get_text() for text in words_of(figure))


def check_print(figure, path):
    """At a journal's resolution and width, texts readable, inside and apart from each other."""
    with Image.open(path) as image:
        assert image.size[0] <= 2126
        assert image.info["dpi"] == pytest.approx((300, 300), abs=0.1)
    figure.canvas.draw()  # at its own resolution, after the PDF at another
    width, height = figure.canvas.get_width_height()
    boxes = []
    for text in words_of(figure):
        assert text.get_size() >= 6
        box = text.get_window_extent()
        assert box.x0 >= 0 and box.x1 <= width and box.y0 >= 0 and box.y1 <= height
        boxes.append(box)
    for index, box in enumerate(boxes):
        for other in boxes[:index]:
            overlap_x = min(box.x1, other.x1) - max(box.x0, other.x0)
            overlap_y = min(box.y1, other.y1) - max(box.y0, other.y0)
            assert overlap_x < 1 or overlap_y < 6, (box, other)


# Which sample, which image


def write_samples(folder, rows):
    save(folder / "s.tsv", pd.DataFrame(rows, columns=["nsd_id", "sample", "metric", "value"]))
    return folder / "s.tsv"


def test_samples_are_ordered_as_by_hand(tmp_path):
    rng = np.random.default_rng(0)
    values = rng.integers(0, 4, (30, 5)).astype(float)  # many ties
    values[rng.random(values.shape) < 0.2] = np.nan
    rows = [(i, s, PSM, values[i, s]) for i in range(30) for s in range(5)]
    rng.shuffle(rows)
    ranked = rank_samples(write_samples(tmp_path, rows), PSM, range(30))
    for number, own in ranked.groupby("nsd_id"):
        key = [(np.isnan(v), -v if v == v else 0, s) for s, v in enumerate(values[number])]
        assert own["sample"].tolist() == [s for _, _, s in sorted(key)]
        assert own["place"].tolist() == [0, 1, 2, 3, 4]


def test_the_best_sample_keeps_the_order_asked_for(tmp_path):
    rows = [(i, s, PSM, i + (s == i % 3)) for i in (4, 2, 8) for s in range(3)]
    rows += [(i, s, "other", -s) for i in (4, 2, 8) for s in range(3)]
    rows += [(6, s, PSM, np.nan) for s in range(3)]
    best = best_samples(write_samples(tmp_path, rows), PSM, [8, 6, 4])
    assert best.index.tolist() == [8, 6, 4]
    assert best["sample"].tolist() == [2, 0, 1] and best["of"].tolist() == [3, 3, 3]
    assert best["value"].tolist() == pytest.approx([9, np.nan, 5], nan_ok=True)


@pytest.mark.parametrize(
    ("metric", "numbers", "found"),
    [
        ("psm:clip:h6", [1], "scores of mse, psm:demo-clip:embedding"),
        ("mse", [1], "none that could be computed"),
        (PSM, [1, 2, 3], "none of 2 images, such as NSD id 2"),
    ],
)
def test_scores_that_are_not_there_are_named(tmp_path, metric, numbers, found):
    path = write_samples(tmp_path, [(1, 0, PSM, 0.5), (1, 0, "mse", np.nan)])
    with pytest.raises(InputError, match=found):
        best_samples(path, metric, numbers)
    with pytest.raises(InputError, match="no sample, metric"):
        save(path, pd.DataFrame({"nsd_id": [1], "value": [1]}))
        best_samples(path, PSM, [1])


def test_images_are_chosen_by_the_rule():
    scores = pd.Series(np.arange(40.0), index=np.random.default_rng(1).permutation(40))
    by_hand = scores.sort_values(ascending=False).index
    # Two best; the other 38 in halves of 19, whose middle places are 9 and 28.
    chosen = choose_images(scores, 4)
    assert chosen["rank"].tolist() == [1, 2, 12, 31]
    assert chosen["nsd_id"].tolist() == by_hand[[0, 1, 11, 30]].tolist()
    assert chosen["group"].tolist() == ["best", "best", "spread", "spread"]
    assert choose_images(scores, 1)["rank"].tolist() == [1]
    # Three of the other 37, in the middle of 12 and a third each.
    assert choose_images(scores, 6)["rank"].tolist() == [1, 2, 3, 10, 22, 34]
    for n in range(1, 41):
        ranks = choose_images(scores, n)["rank"].tolist()
        assert len(set(ranks)) == n and ranks == sorted(ranks) and ranks[-1] <= 40


def test_the_choice_depends_on_nothing_but_scores_and_numbers():
    scores = pd.Series({5: 0.5, 1: 0.5, 9: np.nan, 3: 0.7})
    assert choose_images(scores, 4)["nsd_id"].tolist() == [3, 1, 5, 9]
    assert choose_images(scores[::-1], 4)["nsd_id"].tolist() == [3, 1, 5, 9]
    named = choose_images(scores, 4, [9, 3])
    assert named["nsd_id"].tolist() == [9, 3] and named["rank"].tolist() == [4, 1]
    assert set(named["group"]) == {"named"}
    with pytest.raises(InputError, match="2, which is none"):
        choose_images(scores, 4, [9, 2])
    for n in (0, 5):
        with pytest.raises(InputError, match=f"found {n}"):
            choose_images(scores, n)


def test_what_figures_say_of_their_choice():
    words = describe_best(PSM, {"z": 5, "z coarse": 1})
    assert words.startswith("Each picture is the best of 5 samples by PSM (demo-clip, embedding)")
    assert "of z coarse there is one sample" in words and "Pearson" in words
    assert "best" not in describe_best(PSM, {"z coarse": 1})
    scores = pd.Series(np.arange(20.0))
    assert "the best of 20 test images" in describe_choice(choose_images(scores, 1), 20, "r")
    words = describe_choice(choose_images(scores, 8), 20, "r")
    assert "the 4 best of 20 test images by r, then the middle one of each quarter" in words
    named = describe_choice(choose_images(scores, 1, [3]), 20, "r")
    assert "named in the configuration" in named
    assert words.endswith("NSD ids count from 0.") and named.endswith("count from 0.")


# Pictures


def test_pictures_are_read_by_number_and_sample(files):
    path = files["reconstructions"]["subj02", "c"]
    found = read_pictures(path, [(13, 2), (0, 0), (13, 1)])
    for picture, (number, sample) in zip(found, [(13, 2), (0, 0), (13, 1)], strict=True):
        np.testing.assert_array_equal(picture[5, 5], colour("subj02", "c", number, sample))
    for wanted in [(13, 3), (4, 0), (13, -1)]:
        with pytest.raises(InputError, match=f"sample {wanted[1]} of the image with NSD id"):
            read_pictures(path, [wanted])


@pytest.mark.parametrize("shape", [(2, 3, 8, 8), (2, 3, 8, 8, 4)])
def test_other_files_are_refused(tmp_path, shape):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["images"], file["nsd_id"] = np.zeros(shape, np.uint8), np.arange(2)
    with pytest.raises(InputError, match="uint8"):
        read_pictures(tmp_path / "a.h5", [(0, 0)])
    with pytest.raises(InputError, match="no such file"):
        read_pictures(tmp_path / "b.h5", [(0, 0)])


def test_pictures_become_squares_of_some_pixels():
    rng = np.random.default_rng(0)
    picture = rng.integers(0, 256, (64, 64, 3), np.uint8)
    np.testing.assert_array_equal(fit_picture(picture, 64), picture)
    halves = np.zeros((64, 64, 3), np.uint8)
    halves[:, 32:] = 200
    for side in (16, 100):
        small = fit_picture(halves, side)
        assert small.shape == (side, side, 3)
        assert small[:, : side // 4].max() == 0 and small[:, -side // 4 :].min() == 200


def test_text_is_broken_where_it_no_longer_fits():
    text = "Each picture is the best of 5 samples by $z_c$ " * 9
    with journal_style():
        lines = wrap_text(text, 900)
        assert " ".join(lines) == " ".join(text.split()) and len(lines) > 3
        figure = pictures.new_figure(10, 10)
        for line, following in zip(lines, [*lines[1:], ""], strict=True):
            assert figure.text(0, 0, line, size=6).get_window_extent().width <= 900
            longer = f"{line} {following.split()[0]}" if following else None
            if longer:
                assert figure.text(0, 0, longer, size=6).get_window_extent().width > 900


# Figure 3


def test_figure_3_shows_the_best_sample_of_every_method(files, tmp_path, monkeypatch):
    figure, table, path = draw_fig3(files, tmp_path, monkeypatch)
    numbers = [RANKED[rank - 1] for rank in (1, 2, 4, 7)]
    expected = [[tuple(map(int, seen_colour(number))) for number in numbers]]
    for method in ("z", "c", "zc"):
        pick = [(number, best_sample(method, number)) for number in numbers]
        expected.append([tuple(map(int, colour("subj01", method, *each))) for each in pick])
    assert colours_of(figure) == expected
    check_print(figure, path)
    words = said(figure)
    assert "best of 3 samples by PSM (demo-clip, embedding)" in words
    assert "subj01 – simulated data (demo)" in words and "simulated brain" in words
    for wanted in ("rank 1 rank", "NSD 13", "2 best of 8", "Evenly spaced", "Presented", "$z_c$"):
        assert wanted.split()[0] in words
    assert list(table.columns) == SHOWN.split() and len(table) == 12
    for row in table.itertuples():
        assert row.sample == best_sample(row.method, row.nsd_id) and row.samples == 3
        assert row.value == pytest.approx(score("subj01", row.method, row.nsd_id, row.sample))
        assert RANKED[row.rank - 1] == row.nsd_id
    assert words.count(f"{table['value'].iloc[0]:.2f}") >= 1


def test_figure_3_takes_more_images_and_methods(files, tmp_path, monkeypatch):
    methods = ("z-coarse", "z", "c", "zc", "true-zc")
    figure, table, path = draw_fig3(
        files, tmp_path, monkeypatch, methods, n_images=8, demo=False, ranked_by="c"
    )
    assert [len(row) for row in colours_of(figure)] == [8] * 6
    check_print(figure, path)
    with Image.open(path) as image:
        assert image.size[0] == 2126
    words = said(figure)
    assert "of $z$ coarse there is one sample" in words and "demo)" not in words
    assert "simulated" not in words
    assert table[table["method"] == "z-coarse"]["samples"].eq(1).all()


def test_figure_3_takes_trained_decoders(files, tmp_path, monkeypatch):
    names = {"zc": "zc", "mind-vis": "z", "fcae": "c", "fcae-joint": "true-zc"}
    renamed = {
        kind: {new: files[kind]["subj01", old] for new, old in names.items()}
        for kind in ("reconstructions", "samples")
    }
    figure, table, path = draw_fig3(
        files, tmp_path, monkeypatch, **renamed, ranked_by="fcae", words={"zc": "ridge"}
    )
    check_print(figure, path)
    words = said(figure)
    for wanted in ("$z_c$ ridge", "MinD-Vis MAE", "fCAE full model", "fCAE all subjects"):
        assert wanted in words
    assert "the best sample of fCAE," in words
    assert list(dict.fromkeys(table["method"])) == list(names)


def test_groups_that_do_not_fit_side_by_side_are_below_each_other(files, tmp_path, monkeypatch):
    monkeypatch.setattr(pictures, "PER_BLOCK", 3)
    figure, _, path = draw_fig3(files, tmp_path, monkeypatch, n_images=7)
    assert [len(row) for row in colours_of(figure)] == [3] * 4 + [1] * 4 + [3] * 4
    check_print(figure, path)


def test_figure_3_shows_what_is_asked_for(files, tmp_path, monkeypatch):
    figure, table, _ = draw_fig3(files, tmp_path, monkeypatch, nsd_ids=[2, 13])
    assert table["nsd_id"].tolist() == [2, 13] * 3 and set(table["group"]) == {"named"}
    assert "Images named in the configuration" in said(figure)
    with pytest.raises(InputError, match="scores of true-zc"):
        draw_fig3(files, tmp_path, monkeypatch, ranked_by="true-zc")
    with pytest.raises(InputError, match="4, which is none"):  # seen, but in training
        draw_fig3(files, tmp_path, monkeypatch, nsd_ids=[4])


def test_a_picture_without_a_score_is_shown_as_such(tmp_path, monkeypatch):
    files = write_all(tmp_path, subjects=("subj01",))
    path = files["samples"]["subj01", "c"]
    scores = load_table(path)
    scores.loc[(scores["nsd_id"] == 13) & (scores["metric"] == PSM), "value"] = np.nan
    save(path, scores)
    figure, table, _ = draw_fig3(files, tmp_path, monkeypatch)
    assert said(figure).count("no score") == 1
    row = table[(table["method"] == "c") & (table["nsd_id"] == 13)].iloc[0]
    assert row["sample"] == 0 and np.isnan(row["value"])


# Figure 4


def test_figure_4_shows_all_subjects(files, tmp_path, monkeypatch):
    figure, table, path = draw_fig4(files, tmp_path, monkeypatch)
    best = best_sample("zc", 13)
    expected = [colour(subject, "zc", 13, best) for subject in SUBJECTS]
    assert colours_of(figure) == [[tuple(map(int, each)) for each in [seen_colour(13), *expected]]]
    check_print(figure, path)
    assert table["subject"].tolist() == list(SUBJECTS) and set(table["nsd_id"]) == {13}
    words = said(figure)
    assert "mean of 2 subjects" in words and "best of 3 samples" in words
    for name in ("Presented", *SUBJECTS):
        assert name in words


def test_figure_4_runs_along_or_down_the_page(files, tmp_path, monkeypatch):
    down, _, path = draw_fig4(files, tmp_path, monkeypatch, n_images=3)
    assert [len(row) for row in colours_of(down)] == [3, 3, 3]
    check_print(down, path)
    assert [row[0] for row in colours_of(down)] == [
        tuple(map(int, seen_colour(RANKED[rank - 1]))) for rank in (1, 2, 6)
    ]
    along, _, path = draw_fig4(files, tmp_path, monkeypatch, n_images=6)
    assert [len(row) for row in colours_of(along)] == [6, 6, 6]
    assert {middle[0] for middle in colours_of(along)[0]} == {255}
    check_print(along, path)


@pytest.mark.parametrize("n_subjects", [1, 8])
def test_figure_4_takes_one_to_eight_subjects(files, tmp_path, monkeypatch, n_subjects):
    names = [f"subj{number:02}" for number in range(1, n_subjects + 1)]
    many = {
        name: dict.fromkeys(names, files[name]["subj01", "zc"])
        for name in ("reconstructions", "samples")
    }
    many["images"] = dict.fromkeys(names, files["images"]["subj01"])
    figure, table, path = draw_fig4(files, tmp_path, monkeypatch, n_images=2, **many)
    assert len(table) == 2 * n_subjects
    assert sum(map(len, colours_of(figure))) == 2 * (n_subjects + 1)
    check_print(figure, path)


def test_figure_4_takes_images_that_all_saw(tmp_path, monkeypatch):
    files = write_all(tmp_path, numbers={"subj01": NUMBERS, "subj02": [5, 2, 0]})
    _, table, _ = draw_fig4(files, tmp_path, monkeypatch, n_images=3)
    assert sorted(set(table["nsd_id"])) == [0, 2, 5]
    files = write_all(tmp_path, numbers={"subj01": [7, 3], "subj02": [5, 2, 0]})
    with pytest.raises(InputError, match="a test image that all have seen"):
        draw_fig4(files, tmp_path, monkeypatch)


# Figure 5


def write_evaluation(folder, subjects=SUBJECTS, methods=METHODS, n=40, seed=0):
    """Identification of each image, and its summary; `demo-vit` was not computed."""
    rng = np.random.default_rng(seed)
    summaries, tables = {}, {}
    for subject in subjects:
        for method in methods:
            values = {metric: rng.beta(6, 2, n) for metric in WAYS} | {"ssim": rng.random(n)}
            rows = [(i, metric, v[i]) for metric, v in values.items() for i in range(n)]
            key = subject, method
            tables[key] = folder / f"{subject}_{method}.tsv"
            save(tables[key], pd.DataFrame(rows, columns=["nsd_id", "metric", "value"]))
            rows = [
                (metric, v.mean(), v.mean() - 0.05, v.mean() + 0.05, *CHANCE, n, 5, "")
                for metric, v in values.items()
            ]
            rows.append(("2way:demo-vit:cls", *[np.nan] * 6, n, 5, "not computed"))
            summaries[key] = folder / f"{subject}_{method}_summary.tsv"
            columns = "metric value ci_low ci_high chance_random chance_mean chance_shuffled"
            columns = [*columns.split(), "n_images", "n_samples", "note"]
            save(summaries[key], pd.DataFrame(rows, columns=columns))
    return summaries, tables


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fig5")
    summaries, tables = write_evaluation(folder)
    with pytest.MonkeyPatch.context() as patch:
        kept = keep_figure(patch, fig5)
        outputs = {suffix: folder / f"fig5.{suffix}" for suffix in ("png", "pdf", "tsv")}
        plot_fig5(summaries=summaries, tables=tables, demo=True, **outputs)
    return kept[0], load_table(outputs["tsv"]), outputs["png"], (summaries, tables)


def test_figure_5_is_a_journal_figure(drawn):
    figure, _, path, _ = drawn
    check_print(figure, path)
    words = said(figure)
    for wanted in ("demo-clip", "demo-judge", "embedding", "chance", "true $z_c$ (ceiling)"):
        assert wanted in words
    for wanted in ("mean of 2 subjects", "Not computed: 2way:demo-vit:cls", "simulated brain"):
        assert wanted in words
    assert "ssim" not in words


def test_the_table_of_figure_5_has_every_subject_and_the_mean(drawn):
    _, table, _, (summaries, tables) = drawn
    assert len(table) == 3 * len(METHODS) * len(WAYS)
    assert list(dict.fromkeys(table["metric"])) == WAYS
    table = table.set_index(["subject", "method", "metric"])
    for metric in WAYS:
        means = []
        for subject in SUBJECTS:
            own = load_table(tables[subject, "zc"])
            means.append(own[own["metric"] == metric]["value"].mean())
            row = table.loc[(subject, "zc", metric)]
            assert row["value"] == pytest.approx(means[-1], abs=1e-5)
            assert row["ci_low"] == pytest.approx(means[-1] - 0.05, abs=1e-5)
        row = table.loc[("mean", "zc", metric)]
        assert row["value"] == pytest.approx(np.mean(means), abs=1e-5)
        assert row["ci_low"] < row["value"] < row["ci_high"]
        assert row["chance_mean"] == pytest.approx(0.47) and row["n_images"] == 40
    assert ("subj01", "zc") in summaries


def test_symbols_and_lines_are_where_the_numbers_are(drawn):
    figure, table, _, _ = drawn
    axes = next(each for each in figure.axes if each.get_title() == "demo-clip")
    assert [label.get_text() for label in axes.get_xticklabels()] == ["early", "embedding"]
    mean = table[(table["subject"] == "mean") & (table["metric"] == WAYS[1])].set_index("method")
    drawn_means = [
        (line.get_xdata()[0], line.get_ydata()[0])
        for line in axes.lines
        if line.get_marker() in "Ds^op" and 0.5 < line.get_xdata()[0] < 1.5
    ]
    order = ["z-coarse", "z", "c", "zc", "true-zc"]  # left to right, the ceiling beside them
    np.testing.assert_allclose([y for _, y in sorted(drawn_means)], mean.loc[order, "value"], 1e-4)
    levels = [tuple(line.get_ydata()) for line in axes.lines if len(set(line.get_ydata())) == 1]
    assert levels.count((0.5, 0.5)) == 1


def find_ticks(axes):
    """Level of each short horizontal line."""
    lines = [each for each in axes.collections if hasattr(each, "get_segments")]
    lines = [path for each in lines for path in each.get_segments()]
    return [line[0][1] for line in lines if line[0][1] == line[1][1]]


def test_baselines_are_ticks_and_no_bars_that_look_like_results(drawn):
    figure, _, _, _ = drawn
    for axes in figure.axes:
        assert not [bar for bar in axes.patches if bar.get_width() > 0 and bar.get_height() > 0]
    axes = next(each for each in figure.axes if each.get_title() == "demo-clip")
    # Of four methods in two layers; the ceiling has none.
    assert sorted(find_ticks(axes)) == pytest.approx(sorted(8 * CHANCE))
    assert axes.get_ylim()[0] == 0.4
    assert "Below the axis" not in said(figure) and "The axis starts" not in said(figure)
    title = figure.texts[0].get_text()
    assert "wo-way" not in title and "corrected" not in title


@pytest.mark.parametrize(
    ("low", "level", "start", "words"),
    [
        (0.45, 0.0, 0.4, "Below the axis: the mean image (from 0.00)"),
        (0.31, 0.47, 0.25, "The axis starts at 0.25, since some values lie below 0.4"),
    ],
)
def test_the_axis_goes_below_its_usual_start_for_values_only(low, level, start, words):
    row = {"subject": "mean", "method": "z", "metric": WAYS[0], "value": 0.7, "ci_low": low}
    row |= {"ci_high": 0.9, "chance_random": 0.5, "chance_mean": level, "chance_shuffled": 0.5}
    numbers = pd.DataFrame([row | {"n_images": 9, "n_samples": 1}, row | {"subject": "subj01"}])
    assert fig5.find_lower_end(numbers) == pytest.approx(start)
    assert words in " ".join(fig5._note_baselines(numbers))


def test_bootstrap_is_that_of_a_mean():
    values = np.random.default_rng(0).normal(0.7, 0.1, (900, 1))
    low, high = bootstrap_mean(values, 4000, 1)
    error = values.std() / 30
    assert high - low == pytest.approx(2 * 1.96 * error, rel=0.06)
    assert (high + low) / 2 == pytest.approx(values.mean(), abs=0.15 * error)
    assert bootstrap_mean(values, 50, 1) == bootstrap_mean(values, 50, 1)
    assert bootstrap_mean(np.full((9, 2), 0.25), 50, 1) == pytest.approx((0.25, 0.25))


def test_subjects_share_the_draws_of_images():
    values = np.random.default_rng(0).random((60, 1))
    one = bootstrap_mean(values, 300, 2)
    assert bootstrap_mean(np.hstack([values, values]), 300, 2) == pytest.approx(one)
    # What one subject gains by a draw the other loses.
    opposite = bootstrap_mean(np.hstack([values, 1 - values]), 300, 2)
    assert opposite == pytest.approx((0.5, 0.5))


def test_images_without_a_value_do_not_count():
    values = np.random.default_rng(0).random((60, 1))
    gaps = np.vstack([values, np.full((60, 1), np.nan)])
    low, high = bootstrap_mean(gaps, 4000, 3)
    expected = bootstrap_mean(values, 4000, 3)
    assert (low, high) == pytest.approx(expected, abs=0.01)


def test_figure_5_of_one_subject_and_of_chosen_metrics(tmp_path, monkeypatch):
    summaries, tables = write_evaluation(tmp_path, ("subj01",), ("z", "zc", "new"))
    kept = keep_figure(monkeypatch, fig5)
    outputs = {"png": tmp_path / "a.png", "pdf": tmp_path / "a.pdf", "tsv": tmp_path / "a.tsv"}
    given = {"summaries": summaries, "tables": tables, "demo": False, **outputs}
    plot_fig5(metrics=[WAYS[2], WAYS[0]], **given)
    assert list(dict.fromkeys(load_table(outputs["tsv"])["metric"])) == [WAYS[2], WAYS[0]]
    check_print(kept[0], outputs["png"])
    assert "Small symbols" not in said(kept[0]) and "new" in said(kept[0])
    assert "ceiling" not in said(kept[0]) and "Not computed" not in said(kept[0])
    with pytest.raises(InputError, match="values of 2way:clip:h6, found none"):
        plot_fig5(metrics=["2way:clip:h6"], **given)


def test_more_methods_than_can_be_told_apart_are_refused(tmp_path):
    methods = ["z", "a", "b", "d", "e"]
    numbers = collect_numbers(*write_evaluation(tmp_path, ("subj01",), methods), None, 20, 0)
    with pytest.raises(InputError, match="a, b, d, e"):
        fig5.choose_looks(numbers["method"])
