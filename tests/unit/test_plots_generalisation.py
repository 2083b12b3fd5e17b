import re
from html import unescape

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex
from PIL import Image
from test_plots_decoding import check_print, keep_figure, said

from nsdldm.plots import generalisation
from nsdldm.plots.generalisation import plot_fig11, plot_fig12, plot_fig13
from nsdldm.plots.generalisation_bins import BIN, DROP, LEAST, MATCHED, bin_scores, choose_edges
from nsdldm.plots.generalisation_page import write_generalisation_page
from nsdldm.plots.generalisation_panels import COLOURS, OTHER_COLOUR
from nsdldm.plots.generalisation_rows import COLUMNS, GROUP, name_case
from nsdldm.plots.generalisation_words import (
    format_number,
    judge,
    read_bottleneck,
    read_difference,
    read_share,
    read_verdicts,
)
from nsdldm.support.errors import InputError
from nsdldm.support.files import load_table, save_table

SUBJECTS = ("subj01", "subj02")
SPLITS = ("shared", "unique-2", "sessions-1", "cluster", "category", "random")
SETS = ("synthetic", "vision", "imagery", "attention")
LITTLE = ("hour", "hour-all", "hour-aligned", "hour-tuned", "others")
RANKS = (1, 2, 5, 10, 50)
KINDS = (
    dict.fromkeys(SPLITS, "split")
    | dict.fromkeys(SETS, "test set")
    | dict.fromkeys(LITTLE, "little data")
    | {f"rank-{k}": "bottleneck" for k in RANKS}
    | {f"noise-rank-{k}": "bottleneck" for k in RANKS}
    | {"mean": "baseline", "true-caption": "baseline", "betas": "betas", "half-1": "half"}
)
# Margins above chance of z among all images, and what part of them other scores have.
MARGINS = {"shared": 0.4, "cluster": 0.3, "category": 0.25, "imagery": 0.02, "attention": 0.0}
MARGINS |= {"hour": 0.1, "hour-aligned": 0.2, "hour-tuned": 0.25, "others": 0.2, "mean": 0.0}
SHARES = {"z": 1.0, "c": 0.8, "clip": 0.9, "layout": 0.7, "content": 0.6}
CLOSE = {"all": 1.0, "similar": 0.4, "group": 0.3}
PICTURES = ("layout", "content")
REGIONS = {"early": 0.3, "ventral": 0.1, "lateral": 0.01}


def find_value(case, score, candidates, number):
    """The planted score of a subject."""
    margin = MARGINS.get(case, 0.35)
    if case.startswith("noise"):
        margin = 0.0
    elif case.startswith("rank"):
        margin = 0.4 * min(1, np.log1p(int(case[5:])) / np.log1p(20))
    return 0.5 + margin * SHARES[score] * CLOSE[candidates] + 0.02 * number * (margin > 0)


def make_row(subject, case, source, score, candidates="", value=0.5, half=0.03, **more):
    row = dict.fromkeys(COLUMNS, np.nan) | {"region": "", "space": "", "candidates": candidates}
    row |= {"subject": subject, "case": case, "kind": KINDS[case], "source": source}
    row |= {"score": score, "value": value, "low": value - half, "high": value + half}
    return row | {"chance": 0.5, "n_images": 100, "n_subjects": 1} | more


def make_scores(subject, number, n):
    """Rows of what was decoded in every case; the number of the mean is between subjects."""
    for case in KINDS:
        for score in SHARES:
            features = score not in PICTURES
            if (score == "c" and case in SETS) or (case == "true-caption" and features):
                continue
            source = "decoded" if features else "c" if case == "true-caption" else "zc"
            for candidates in CLOSE:
                value = find_value(case, score, candidates, number)
                top = np.nan if features else 0.95
                own = {"ceiling": top, "normalised": (value - 0.5) / (top - 0.5)}
                own |= {"reliability": 0.3 if score == "z" else -0.1} if case == "shared" else {}
                if subject == GROUP:
                    above = n * (value > 0.53)
                    own |= {"n_subjects": n, "above": above, "prevalence": above / n}
                    own |= {"prevalence_low": 0.3 * bool(above), "prevalence_high": 0.98}
                yield make_row(subject, case, source, score, candidates, value, **own)
                if case == "shared":
                    yield make_row(subject, case, "shuffled", score, candidates, 0.5)
                    yield make_row(subject, case, "nearest", score, candidates, 0.7)


def make_beside(subject):
    """Rows of what is derived from scores, of encoders and of inference."""
    zero = {"chance": 0.0}
    for score in SHARES:
        source = "zc" if score in PICTURES else "decoded"
        name = f"{score}-category-share"
        yield make_row(subject, "shared", source, name, "group", 0.7, 0.1, **zero)
        for case in ("shared", "cluster"):
            name = f"{score}-by-similarity"
            yield make_row(subject, case, source, name, "all", 0.1, 0.05, **zero)
    for region, value in REGIONS.items():
        place = {"region": region, "space": "z"}
        for group in ("all", "words"):
            own = place | zero | {"ceiling": 0.6, "normalised": value / 0.6}
            yield make_row(subject, "synthetic", "encoder", "r", group, value, **own)
        for score, share in (("share_fdr", 0.4), ("share_fwe", 0.2)):
            own = place | {"chance": np.nan}
            yield make_row(subject, "shared", "encoder", score, "", share, np.nan, **own)


def make_table(subjects=SUBJECTS):
    rows = []
    middle = (len(subjects) - 1) / 2
    for subject, number in [*zip(subjects, range(len(subjects)), strict=True), (GROUP, middle)]:
        rows += [*make_scores(subject, number, len(subjects)), *make_beside(subject)]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def make_images(case, subject, n=120):
    """Scores of images that follow their similarity; content of new categories is worse still."""
    rng = np.random.default_rng([*map(ord, case + subject)])
    similarity = {"cluster": 0.5, "category": 0.6}.get(case, 0.7) + 0.1 * rng.standard_normal(n)
    parts = []
    for score in SHARES:
        drop = 0.1 * (score == "content" and case == "category")
        value = 0.3 + 0.5 * similarity - drop + 0.05 * rng.standard_normal(n)
        known = {"nsd_id": np.arange(n), "group": "x", "similarity": similarity, "score": score}
        source = "zc" if score in PICTURES else "decoded"
        for name, own in ((source, "all"), (source, "similar"), ("shuffled", "all")):
            found = value if (name, own) == (source, "all") else 0.9
            parts.append(pd.DataFrame(known | {"source": name, "candidates": own, "value": found}))
    return pd.concat(parts)


def draw(plot, folder, patch, **given):
    kept = keep_figure(patch, generalisation)
    outputs = {suffix: folder / f"figure.{suffix}" for suffix in ("png", "pdf", "tsv")}
    plot(**{"demo": True} | given | outputs)
    return kept[0], load_table(outputs["tsv"]), outputs["png"]


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    path = tmp_path_factory.mktemp("generalisation") / "generalisation.tsv"
    save_table(path, make_table())
    return path


@pytest.fixture(scope="module")
def scores(tmp_path_factory):
    folder, paths = tmp_path_factory.mktemp("scores"), {}
    for case in ("shared", "random", "cluster", "category"):
        for subject in SUBJECTS:
            paths[subject, case] = folder / f"{subject}.{case}.tsv"
            save_table(paths[subject, case], make_images(case, subject))
    return paths


@pytest.fixture(scope="module", params=[1, 2, 3])
def drawn(request, path, scores, tmp_path_factory):
    plot = {1: plot_fig11, 2: plot_fig12, 3: plot_fig13}[request.param]
    given = {"scores": scores} if request.param == 3 else {"table": path}
    with pytest.MonkeyPatch.context() as patch:
        yield plot, *draw(plot, tmp_path_factory.mktemp("figure"), patch, **given)


def save(folder, table):
    save_table(folder / "table.tsv", table)
    return folder / "table.tsv"


def test_figures_are_journal_figures(drawn):
    plot, figure, _, png = drawn
    check_print(figure, png)
    words = said(figure)
    assert "simulated data (demo)" in words and "chance" in words
    title = {plot_fig11: "Does it generalise?", plot_fig12: "How few numbers per image suffice"}
    assert title.get(plot, "Is it explained by similarity to training images?") in words


def list_symbols(figure, score):
    """Values and whether they are filled, of all symbols in a panel."""
    colour = COLOURS.get(score, OTHER_COLOUR)
    return sorted(
        (round(line.get_xdata()[0], 6), line.get_markerfacecolor() != "white")
        for axes in figure.axes
        for line in axes.lines
        if len(line.get_xdata()) == 1 and to_hex(line.get_color()) == colour
    )


def test_figure_11_shows_the_table(path, tmp_path, monkeypatch):
    figure, numbers, _ = draw(plot_fig11, tmp_path, monkeypatch, table=path)
    table = load_table(path)
    shown = [case for case, kind in KINDS.items() if kind not in ("bottleneck", "half")]
    assert {*numbers["case"]} == {*shown}
    for score in SHARES:
        own = table[(table["score"] == score) & table["candidates"].isin(("all", "similar"))]
        own = own[own["case"].isin(shown) & (own["subject"] != GROUP)]
        wanted = zip(own["value"].round(6), own["candidates"] == "all", strict=True)
        assert list_symbols(figure, score) == sorted(wanted)
    intervals = {
        tuple(segment[:, 0].round(6))
        for axes in figure.axes
        for lines in axes.collections
        if hasattr(lines, "get_segments")
        for segment in lines.get_segments()
    }
    assert {*zip(numbers["low"].round(6), numbers["high"].round(6), strict=True)} <= intervals
    words = said(figure)
    for name in ("New clusters", "Imagined targets", "Nearest training image", "2 sessions"):
        assert name in words


def test_figure_11_leaves_out_what_is_absent(tmp_path, monkeypatch):
    table = make_table(["subj05"])
    table = table[table["case"].isin(("shared", "cluster")) & (table["candidates"] != "similar")]
    path = save(tmp_path, table)
    figure, numbers, png = draw(plot_fig11, tmp_path, monkeypatch, table=path, demo=False)
    check_print(figure, png)
    words = said(figure)
    assert {*numbers["subject"]} == {"subj05"} and "New clusters" in words
    for absent in ("NSD-synthetic", "Little data", "demo", "similar ones"):
        assert absent not in words


def test_figure_12_shows_the_table(path, tmp_path, monkeypatch):
    figure, numbers, _ = draw(plot_fig12, tmp_path, monkeypatch, table=path)
    assert {*numbers["line"]} == {"responses", "noise", "mean"}
    curves = {
        tuple(np.round(line.get_ydata(), 6))
        for axes in figure.axes
        for line in axes.lines
        if list(line.get_xdata()) == list(RANKS)
    }
    wanted = {
        tuple(round(find_value(f"rank-{k}", score, candidates, number), 6) for k in RANKS)
        for score in SHARES
        for candidates in ("all", "similar")
        for number in range(2)
    }
    assert curves == wanted | {(0.5,) * len(RANKS)}
    assert "all" in [label.get_text() for label in figure.axes[-1].get_xticklabels()]


def test_figure_12_needs_a_bottleneck(tmp_path):
    table = make_table()
    path = save(tmp_path, table[table["kind"] != "bottleneck"])
    outputs = {name: tmp_path / f"f.{name}" for name in ("png", "pdf", "tsv")}
    with pytest.raises(InputError, match="cases such as rank-10"):
        plot_fig12(table=path, demo=True, **outputs)


def test_figure_13_shows_bins(scores, tmp_path, monkeypatch):
    figure, numbers, _ = draw(plot_fig13, tmp_path, monkeypatch, scores=scores)
    every = pd.concat(load_table(path).assign(case=key[1]) for key, path in scores.items())
    every = every[(every["candidates"] == "all") & (every["source"] != "shuffled")]
    bins = numbers[numbers["what"] == BIN]
    last = bins["similarity_high"].max()
    for row in bins.itertuples():
        own = every[(every["case"] == row.case) & (every["score"] == row.score)]
        inside = own["similarity"] >= row.similarity_low
        inside &= (own["similarity"] < row.similarity_high) | (row.similarity_high == last)
        assert row.n_images == inside.sum() >= LEAST
        assert row.value == pytest.approx(own.loc[inside, "value"].mean())
        assert row.low < row.value < row.high
    assert "category: clearly lower in z, c, clip, layout, content" in said(figure)


def test_a_drop_is_explained_by_similarity_or_not(scores, tmp_path, monkeypatch):
    _, numbers, _ = draw(plot_fig13, tmp_path, monkeypatch, scores=scores)
    rows = {(row.what, row.case, row.score): row for row in numbers.itertuples()}
    # Mean similarity is 0.2 and 0.1 lower, and half of that is lost.
    assert rows[DROP, "cluster", "z"].value == pytest.approx(-0.1, abs=0.02)
    assert rows[DROP, "category", "content"].value == pytest.approx(-0.15, abs=0.02)
    assert rows[MATCHED, "cluster", "z"].value == pytest.approx(0, abs=0.02)
    assert rows[MATCHED, "category", "content"].value == pytest.approx(-0.1, abs=0.02)
    assert rows[MATCHED, "category", "content"].high < -0.08


def test_bins_by_hand():
    n = LEAST
    table = pd.DataFrame(
        {
            "nsd_id": np.arange(4 * n),
            "subject": "subj01",
            "case": ["shared"] * 2 * n + ["cluster"] * 2 * n,
            "similarity": [0.2] * n + [0.8] * n + [0.2] * n + [0.8] * n,
            "score": "z",
            "value": [0.6] * n + [1.0] * n + [0.5] * n + [0.7] * n,
        }
    )
    table = table.drop(index=table.index[-n:])  # no similar image among new clusters
    numbers = bin_scores(table, np.array([0, 0.5, 1]))
    bins = numbers[numbers["what"] == BIN]
    assert list(bins["value"]) == pytest.approx([0.6, 1.0, 0.5])
    found = numbers.set_index("what")["value"]
    assert found[DROP] == pytest.approx(0.5 - 0.8) and found[MATCHED] == pytest.approx(-0.1)


def test_edges_hold_equally_many_images():
    values = np.arange(100.0)
    counts = np.histogram(values, choose_edges(values, 4))[0]
    assert list(counts) == [25] * 4
    assert len(choose_edges(np.ones(5))) == 1


def test_figure_13_needs_similarity(scores, tmp_path):
    table = make_images("shared", "subj01").assign(similarity=np.nan)
    outputs = {name: tmp_path / f"f.{name}" for name in ("png", "pdf", "tsv")}
    with pytest.raises(InputError, match="similarity to training images"):
        plot_fig13(scores={("subj01", "shared"): save(tmp_path, table)}, demo=True, **outputs)


def test_one_case_is_compared_with_nothing(scores, tmp_path, monkeypatch):
    own = {("subj01", "shared"): scores["subj01", "shared"]}
    figure, numbers, png = draw(plot_fig13, tmp_path, monkeypatch, scores=own)
    check_print(figure, png)
    assert {*numbers["what"]} == {BIN} and "Difference" not in said(figure)


# Sentences


def row(value, half=0.03, chance=0.5, **more):
    known = {"value": value, "low": value - half, "high": value + half, "chance": chance}
    return pd.Series(known | more)


def test_numbers_are_written_plainly():
    assert format_number(-0.0001) == "0.00" and format_number(-0.126) == "−0.13"
    assert format_number(0.2, signed=True) == "+0.20"
    assert [name_case(case) for case in ("sessions-1", "sessions-40")] == [
        "1 session",
        "40 sessions",
    ]


@pytest.mark.parametrize(
    ("value", "verdict"), [(0.6, "above"), (0.52, "not"), (0.4, "below"), (np.nan, "unknown")]
)
def test_verdicts_follow_the_interval(value, verdict):
    assert judge(row(value)) == verdict


def test_what_is_above_chance_is_said():
    assert read_verdicts({"z": row(0.8), "c": row(0.7)}) == "All above chance."
    assert read_verdicts({"z": row(0.5), "c": row(0.51)}) == "None above chance."
    words = read_verdicts({"z": row(0.8), "c": row(0.5), "CLIP": row(0.4)})
    assert words == "Above chance: z; not above chance: c; below chance: CLIP."
    assert read_verdicts({"z": row(0.8, np.nan)}) == ""


def test_differences_have_a_sign():
    others = {"z": row(0.8), "c": row(0.7)}
    words = read_difference({"z": row(0.7), "c": row(0.8)}, others, "shared")
    assert words == "Lower than shared in z (−0.10); higher than shared in c (+0.10)."
    assert read_difference(others, others, "shared") == "No clear difference from shared."
    assert read_difference({"clip": row(0.7)}, others, "shared") == ""


def test_shares_and_what_is_left():
    share = row(0.75, 0.1, 0)
    words = "layout owes 75 % (65 to 85 %) of its margin above chance to the category"
    assert read_share("layout", share, None) == f"{words}."
    assert read_share("layout", share, row(0.6)).endswith("it is still above chance (0.60).")
    assert read_share("layout", share, row(0.5)).endswith("it is not above chance (0.50).")
    assert "no margin" in read_share("layout", row(np.nan), None)


def test_bottleneck_names_the_numbers():
    curve = {1: row(0.51), 2: row(0.6), 5: row(0.69), 10: row(0.7)}
    words = read_bottleneck("z", curve, row(0.7), [row(0.5), row(0.6)])
    assert "with as few as 2, and with 5 it has 95 %" in words
    assert words.endswith("from noise it is above chance with 1 of 2 numbers.")
    assert "none of these" in read_bottleneck("z", {1: row(0.5)}, None, [])


# The page


def write(folder, table, figures=(), demo=True):
    path = folder / "page.html"
    write_generalisation_page(
        table=save(folder, table), figures=list(figures), output=path, demo=demo
    )
    return path.read_text()


def read_reading(page, case):
    """The sentence of a case in the matrix, without tags."""
    found = re.search(rf"<small>{case}</small></th>.*?<td class=\"words\">(.*?)</td>", page)
    return unescape(found[1])


def change(table, case, score, value):
    """The same table with another value of one score, in every subject."""
    own = (table["case"] == case) & (table["score"] == score)
    own &= ~table["source"].isin(("shuffled", "nearest"))
    table = table.copy()
    table.loc[own, ["value", "low", "high"]] = [value, value - 0.03, value + 0.03]
    return table


def test_the_page_says_what_the_table_says(tmp_path):
    table = make_table()
    known = table[table["prevalence"].notna() & (table["candidates"] == "all")]
    known = known[~known["kind"].isin(("bottleneck", "half"))]
    every = (known["above"] == 2).sum()
    page = write(tmp_path, table)
    assert "simulated brain" in page and "<script" not in page and "http:" not in page
    assert "▲</span> <b>0.91</b> <small>(0.88–0.94)</small>" in page
    for case in (*SPLITS, *SETS, *LITTLE):
        assert read_reading(page, case)
    assert read_reading(page, "shared") == "All above chance, also among similar images."
    assert read_reading(page, "cluster").endswith("clip (−0.09) and layout (−0.07).")
    assert "Lower than vision in all" in read_reading(page, "imagery")
    titles = re.findall(r"<h2 id=.*?>(.*?)</h2>", page)
    assert len(titles) == 10 and "Bottleneck" in titles and "Inference over voxels" in titles
    for words in (
        "layout owes 70 % (60 to 80 %) of its margin above chance to the category",
        "hour-aligned: higher than hour in z (+0.10)",
        "Scores of single images are most reliable for z (0.30); not above 0: c, clip",
        "synthetic (z): Over all images r is above 0 in 2 of 3 regions.",
        "40 % of voxels are significant by FDR and 20 % family-wise",
        f"Of {len(known)} scores of a case, {every} are above chance in every subject (of 2)",
        "shared and cluster: higher for more similar images: z, c, clip, layout and content.",
        "Decoded: higher than the generator given mean features in all",
    ):
        assert words in unescape(page), words


def test_the_text_follows_a_number_that_changes_sign(tmp_path):
    table = make_table()
    kept = read_reading(write(tmp_path, table), "random")
    worse = read_reading(write(tmp_path, change(table, "random", "z", 0.4)), "random")
    assert kept.startswith("All above chance") and "No clear difference" in kept
    assert "below chance: z" in worse and "Lower than shared in z (−0.51)" in worse
    none = read_reading(write(tmp_path, change(table, "random", "layout", 0.51)), "random")
    assert "not above chance: layout" in none
    slopes = change(table, "cluster", "z-by-similarity", -0.2)
    assert "cluster: higher for more similar images: c, clip, layout and content; lower" in write(
        tmp_path, slopes
    )


def test_the_class_of_a_cell_follows(tmp_path):
    page = write(tmp_path, change(make_table(), "synthetic", "z", 0.3))
    own = page.split("<small>synthetic</small></th>")[1].split("</td>")[0]
    assert 'class="score below"' in own and "▼" in own and "0.30" in own


def test_absent_cases_are_left_out(tmp_path):
    table = make_table(["subj03"])
    table = table[table["case"].isin(("shared", "hour", "hour-all")) & (table["subject"] != GROUP)]
    table = table[table["source"] == "decoded"]
    page = write(tmp_path, table, demo=False)
    assert "simulated" not in page and "subj03" in page
    body = page.split("<body>")[1]
    assert "<small>hour</small>" in body and "<small>cluster</small>" not in body
    titles = re.findall(r"<h2 id=.*?>(.*?)</h2>", page)
    assert "Little data" in titles and "Bottleneck" not in titles and "Prevalence" not in page


def test_text_of_the_table_is_escaped(tmp_path):
    table = make_table().replace({"region": {"early": "<b>V1</b> & co"}})
    table["case"] = table["case"].replace("random", "<i>odd</i>")
    page = write(tmp_path, table)
    assert "<b>V1" not in page and "&lt;b&gt;V1&lt;/b&gt; &amp; co" in page
    assert "<i>odd" not in page


def test_figures_are_embedded_where_they_belong(tmp_path):
    folder = tmp_path / "subj01" / "figures"
    folder.mkdir(parents=True)
    paths = [tmp_path / "fig11.png", tmp_path / "fig12.png", folder / "nsd_imagery.png"]
    for path in paths:
        Image.new("RGB", (20, 10), "red").save(path)
    page = write(tmp_path, make_table(), paths)
    assert page.count('src="data:image/webp;base64,') == 3
    assert page.index('alt="Figure 12') > page.index('id="bottleneck"')
    assert 'alt="Reconstructions of NSD-Imagery, subj01"' in page


def test_a_broken_figure_is_named(tmp_path):
    (tmp_path / "fig11.png").write_text("no picture")
    with pytest.raises(InputError, match=r"fig11\.png"):
        write(tmp_path, make_table(), [tmp_path / "fig11.png"])


def test_a_table_without_a_column_or_scores_is_refused(tmp_path):
    with pytest.raises(InputError, match="no prevalence"):
        write(tmp_path, make_table().drop(columns="prevalence"))
    table = make_table()
    with pytest.raises(InputError, match="scores of decoded features"):
        write(tmp_path, table[table["source"] == "encoder"])
