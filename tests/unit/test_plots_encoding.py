import re

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from sklearn.metrics import r2_score
from test_plots_fig6 import SHAPE, all_texts, write_subject

from nsdldm import stats
from nsdldm.encoding import cells
from nsdldm.encoding import group as group_table
from nsdldm.nsd.surfaces import project
from nsdldm.plots import cortex, fig7, fig9, group, panels, style
from nsdldm.support.errors import InputError
from nsdldm.support.files import load_table, save_array, save_table, save_volume

LEVELS = (20, 60, 100)
PAIRS = [f"z+zc-n{percent:03d}" for percent in LEVELS]
# Controls of z_c and their unique variance in the group's table.
CONTROLS = {"-empty": 0.04, "-other-caption": 0.02, "-linear": 0.03, "-residual": 0.06}
BLOCKS = ["down1", "down2", "mid", "up1", "up2"]
# The voxels that write_subject has: all but two planes.
VOXELS = np.argwhere(np.indices(SHAPE)[0] % (SHAPE[0] - 1) > 0)
X, Y, Z = VOXELS.T


def write_joint(folder, pair, reach):
    """z unique where j < reach, rising with i; z_c where j >= 30 - reach, rising with k."""
    table = pd.DataFrame({"i": X, "j": Y, "k": Z, "r": 0.3, "ceiling": 0.5, "ncsnr": 0.4})
    table["significant"], table["tested"] = reach > 0, X < 12
    a, b = pair.split("+")
    table[f"unique_{a}"], table[f"significant_{a}"] = X / 100, reach > Y
    table[f"unique_{b}"], table[f"significant_{b}"] = Z / 100, SHAPE[1] - reach <= Y
    save_table(folder / f"{pair}.tsv", table)
    return folder / f"{pair}.tsv"


def write_inputs(folder):
    """What figures 7 to 9 share."""
    given = write_subject(folder)
    return {"subject": given["subject"], "anatomy": given["anatomy"]}


def run(module, function, folder, **given):
    """Outputs of one figure, and the figure."""
    figures = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cortex, "SUPERSAMPLING", 1)  # for speed
        save = module.save_figure
        patch.setattr(module, "save_figure", lambda p, f: figures.append(f) or save(p, f))
        outputs = {suffix: folder / f"figure.{suffix}" for suffix in ("png", "pdf", "tsv")}
        function(**given, demo=True, **outputs)
    return outputs, figures[0]


@pytest.fixture(scope="module")
def unique(tmp_path_factory):
    """Figure 7 with pictures that are red, green and blue by row."""
    folder = tmp_path_factory.mktemp("fig7")
    pictures = [folder / f"strip{row}.npy" for row in range(3)]
    for row, path in enumerate(pictures):
        strip = np.zeros((2, 8, 8, 3), np.uint8)
        strip[..., row] = 200
        save_array(path, strip)
    names = [*PAIRS, *(f"{pair}{control}" for pair in PAIRS for control in CONTROLS)]
    tables = {pair: write_joint(folder, pair, 6) for pair in names}
    given = write_inputs(folder) | {"tables": tables, "pictures": pictures}
    return run(fig7, fig7.plot_unique_variance, folder, drawn="unique", **given)


def test_figure_8_is_a_journal_figure(tmp_path):
    save_array(tmp_path / "strip.npy", np.zeros((1, 8, 8, 3), np.uint8))
    tables = {"z+zc-s050": write_joint(tmp_path, "z+zc-s050", 6)}
    given = write_inputs(tmp_path) | {"tables": tables, "pictures": [tmp_path / "strip.npy"]}
    outputs, figure = run(fig7, fig7.plot_unique_variance, tmp_path, drawn="joint", **given)
    check_journal(outputs["png"], figure)
    words = [text.get_text() for text in all_texts(figure)]
    assert words.count("Decoded latent") == 1


@pytest.fixture(scope="module")
def winners(tmp_path_factory):
    """Figure 9: block k // 4 wins, nothing is significant in front, not clear where i < 4.

    On average mid is best and up1 the second, by 0.02 of the variance.
    """
    folder, given = tmp_path_factory.mktemp("fig9"), {"blocks": BLOCKS, "repeats": 200, "seed": 0}
    tables, errors = {}, {}
    for share in (0.25, 1.0):
        table = pd.DataFrame({"i": X, "j": Y, "k": Z, "significant": Y < 15, "clear": X >= 4})
        table["winner"] = np.where(Y < 15, Z // 4, np.nan)
        tables[share], errors[share] = folder / f"{share}.tsv", folder / f"{share}-errors.tsv"
        save_table(tables[share], table)
        means = pd.DataFrame({"roi": np.repeat(["cortex", "early", "high"], 20)})
        means["nsd_id"], means["n_voxels"] = np.tile(np.arange(20), 3), 100
        for number, block in enumerate(BLOCKS):
            means[f"error_{block}"] = 0.73 if block == "mid" else 0.75
            means[f"cv_{block}"] = (0.1, 0.1, 0.3, 0.2, 0.1)[number]
        save_table(errors[share], means)
    given |= write_inputs(folder) | {"tables": tables, "errors": errors}
    return run(fig9, fig9.plot_fig9, folder, **given)


def images_of(figure):
    return [axes.get_images()[0].get_array() for axes in figure.axes if axes.get_images()]


def legend_texts(figure):
    legends = [axes.get_legend() for axes in figure.axes if axes.get_legend()]
    return [text.get_text() for legend in legends for text in legend.get_texts()]


def check_journal(path, figure):
    """Double column at 300 dpi, nothing below 6 points, no text cut off or on another."""
    with Image.open(path) as image:
        assert image.size[0] == 2126 and image.size[1] <= 2905  # 246 mm
    texts = [text for text in all_texts(figure) if text.get_text() and text.get_visible()]
    assert min(text.get_size() for text in texts) >= 6
    figure.canvas.draw()  # at its own resolution, after the PDF at another
    width, height = figure.canvas.get_width_height()
    boxes = [text.get_window_extent() for text in texts]
    for text, box in zip(texts, boxes, strict=True):
        inside = box.x0 >= 0 and box.x1 <= width and box.y0 >= 0 and box.y1 <= height
        assert inside, text.get_text()
    for one, box in enumerate(boxes):
        for other in range(one):
            pair = texts[one].get_text(), texts[other].get_text()
            assert not box.overlaps(boxes[other]), pair


def test_names_of_spaces_are_read():
    assert fig7.parse_space("zc-n060") == ("zc", "n", 0.6, "")
    assert fig7.parse_space("zc-s025-seed43") == ("zc", "s", 0.25, "seed43")
    assert fig7.parse_pair("z+zc-n100-shared") == ("z", "zc-n100-shared")
    for wrong in ("zc", "z+zc", "zc-n060", "unet-mid-s050"):
        with pytest.raises(InputError):
            fig7.parse_pair(wrong)


def test_rows_say_which_level_they_are():
    assert fig7.name_rows(PAIRS)[0] == "Low: noise strength 0.2"
    assert fig7.name_rows(["z+zc-s050"]) == ["After 50 % of the denoising steps"]
    assert fig7.name_rows(["z+zc-n020-shared"]) == ["Noise strength 0.2, shared"]


def test_figure_7_is_a_journal_figure(unique):
    outputs, figure = unique
    check_journal(outputs["png"], figure)
    words = [text.get_text() for text in all_texts(figure)]
    for wanted in ("Unique to $z$", "Unique to $z_c$", "Decoded $z_c$", "early", "high"):
        assert words.count(wanted) == 1, wanted
    count = f"{22 * 6 * 20:,} of {11 * 30 * 20:,} tested voxels significant"
    assert words.count(count) == 6


def test_figure_7_has_pictures_beside_their_level(unique):
    images = images_of(unique[1])
    # Three rows of two maps of six panels, and two pictures a row.
    assert len(images) == 36 + 6
    for number, picture in enumerate(images[36:]):
        assert (picture.argmax(axis=2) == number // 2).all()


def test_unique_variance_is_drawn_where_its_own_space_is_significant(unique):
    posterior = []
    for image in images_of(unique[1])[:2]:  # left flat maps of z and z_c in the first row
        image = image.astype(int)
        coloured = (np.ptp(image[..., :3], axis=2) > 20) & (image[..., 3] == 255)
        known = np.nonzero(image[..., 3].any(axis=0))[0]
        middle = (known[0] + known[-1]) // 2
        posterior.append((coloured[:, middle:].any(), coloured[:, :middle].any()))
    assert posterior == [(True, False), (False, True)]


def test_unique_variance_is_drawn_wherever_both_predict_if_asked(tmp_path):
    pair, layers = PAIRS[0], write_inputs(tmp_path)["anatomy"].transforms
    for reach in (6, 0):
        table = load_table(write_joint(tmp_path, pair, reach))
        maps = fig7._project_pair(table, pair, SHAPE, layers, "joint")
        volume = panels.fill_volume(table, "significant", SHAPE)
        for hemi, each in layers.items():
            shown = project(volume, each, "nearest") == 1
            assert shown.any() == (reach > 0)
            for space in ("z", "zc-n020"):
                positive = project(
                    panels.fill_volume(table, f"unique_{space}", SHAPE), each, "linear"
                )
                expected = shown & (positive > 0)
                assert (np.isfinite(maps[space][hemi]) == expected).all()


def test_figure_7_has_a_row_a_level_space_and_region(unique):
    table = load_table(unique[0]["tsv"])
    assert len(table) == 3 * 5 * 2 * 3
    row = table.set_index(["pair", "space", "roi"]).loc[("z+zc-n060", "zc-n060", "cortex")]
    assert row["n_voxels"] == len(VOXELS) and row["n_significant"] == 22 * 6 * 20
    assert row["n_tested"] == 11 * 30 * 20
    assert row["median_unique"] == pytest.approx(np.median(Z) / 100)
    early = table.set_index(["pair", "space", "roi"]).loc[("z+zc-n020", "zc-n020", "early")]
    assert early["n_significant"] == 0 and np.isnan(early["median_unique_significant"])


def test_figure_7_draws_the_controls_as_thin_lines(unique):
    assert sum(word.startswith("$z_c$: ") for word in legend_texts(unique[1])) == 4
    axes = next(axes for axes in unique[1].axes if axes.get_ylabel().startswith("Unique"))
    thin = [line for line in axes.lines if line.get_linewidth() < 1 and len(line.get_xdata()) == 3]
    assert len(thin) == 4
    # What write_joint gives to voxels in front of the region drawn first.
    table = load_table(unique[0]["tsv"]).set_index(["pair", "space", "roi"])
    mean = table.loc[("z+zc-n020-empty", "zc-n020-empty", axes.get_title()), "mean_unique"]
    assert all(line.get_ydata()[0] == pytest.approx(mean) for line in thin)


def test_small_values_of_unique_variance_are_as_grey_as_the_cortex():
    shades = fig7.UNIQUE(np.linspace(0, 1, 50))[:, :3]
    assert np.ptp(shades[0]) < 0.02 and style.SULCUS <= shades[0].mean() <= style.GYRUS
    lightness = shades @ [0.299, 0.587, 0.114]
    assert (np.diff(lightness[5:]) < 0).all() and lightness[-1] < 0.4


def test_pictures_of_another_form_or_number_are_refused(tmp_path):
    save_array(tmp_path / "strip.npy", np.zeros((8, 8, 3), np.uint8))
    with pytest.raises(InputError, match=r"strip\.npy: expected uint8 of shape \(images, "):
        fig7._read_strip([tmp_path / "strip.npy"], 1)
    with pytest.raises(ValueError, match="1 files of pictures for 3 rows"):
        fig7._read_strip([tmp_path / "strip.npy"], 3)


def test_a_table_without_its_columns_is_refused(tmp_path):
    path = write_joint(tmp_path, PAIRS[0], 6)
    with pytest.raises(InputError, match="unique_zc-n060"):
        fig7.plot_unique_variance(
            **dict.fromkeys(["png", "pdf", "tsv"]),
            **{"subject": "subj01", "demo": False, "drawn": "unique"},
            anatomy=cortex.Anatomy(None, None, None),
            tables={PAIRS[1]: path},
        )


def test_figure_9_is_a_journal_figure(winners):
    outputs, figure = winners
    check_journal(outputs["png"], figure)
    words = [text.get_text() for text in all_texts(figure)]
    known, found = 19 * 15 * 20, 22 * 15 * 20
    assert words.count(f"clearly best in {known:,} of {found:,} significant voxels") == 2


def test_the_counts_are_those_of_the_tables(winners):
    table = load_table(winners[0]["tsv"])
    assert list(dict.fromkeys(table["block"])) == BLOCKS
    sums = table.groupby(["share", "roi"])["n_voxels"].sum()
    assert (sums == table.groupby(["share", "roi"])["n_significant"].first()).all()
    counts = table.set_index(["share", "roi", "block"])["n_voxels"]
    assert counts[1.0, "cortex", "mid"] == 22 * 15 * 4
    clear = table.set_index(["share", "roi", "block"])["n_clear"]
    assert clear[1.0, "cortex", "mid"] == 19 * 15 * 4
    bars = next(axes for axes in winners[1].axes if axes.patches).patches
    drawn = np.reshape([bar.get_width() for bar in bars], (2 * len(BLOCKS), -1))
    for column, roi in enumerate(("early", "high")):
        full, pale = drawn[::2, column], drawn[1::2, column]
        assert full.tolist() == clear[0.25, roi].tolist()
        assert (full + pale).tolist() == counts[0.25, roi].tolist()


def test_regions_are_named_with_their_best_block(winners):
    table = load_table(winners[0]["tsv"])
    best = table.dropna(subset="lead")
    assert len(best) == 2 * 3 and (best["block"] == "mid").all() and (best["second"] == "up1").all()
    np.testing.assert_allclose(best[["lead", "ci_low", "ci_high"]], 0.02, atol=5e-4)
    axes = next(axes for axes in winners[1].axes if axes.patches)
    names = [text.get_text() for text in axes.get_yticklabels()]
    assert names == [f"{roi}: mid\n+.020 [.020, .020]" for roi in ("early", "high")]


def test_classes_are_never_mixed(winners):
    """Each coloured pixel of a flat map has the colour of one block, full or pale."""
    shades = [fig9.choose_colours(len(BLOCKS)).to_rgba(n)[:3] for n in range(2 * len(BLOCKS))]
    image = images_of(winners[1])[0]
    pixels = image[image[..., 3] == 255][:, :3].astype(int)
    pixels = pixels[np.ptp(pixels, axis=1) > 20]
    away = np.abs(pixels[:, None] - 255 * np.array(shades)).max(axis=2).min(axis=1)
    assert len(pixels) > 1000 and away.max() <= 2
    nearest = np.abs(pixels[:, None] - 255 * np.array(shades)).max(axis=2).argmin(axis=1)
    assert set(nearest) == set(range(2 * len(BLOCKS)))


def test_snapping_takes_the_nearest_vertex_with_a_value():
    corners = np.array([[0, 1, 2], [0, 1, 2], [0, 1, 2]])
    weights = np.array([[0.5, 0.3, 0.2], [0.2, 0.6, 0.2], [0.1, 0.3, 0.6]], np.float32)
    view = cortex.Raster((1, 3), np.ones((1, 3), bool), corners, weights, np.ones(3))
    snapped = panels.snap(view, np.array([4.0, 2.0, np.nan])).weights
    # The third pixel shows mostly a vertex without a value: it stays grey, and as it was.
    np.testing.assert_array_equal(snapped, [[1, 0, 0], [0, 1, 0], weights[2]])


def test_a_winner_that_is_no_block_is_refused(tmp_path):
    row = {"i": 1, "j": 1, "k": 1, "winner": 5, "significant": True, "clear": False}
    save_table(tmp_path / "b.tsv", pd.DataFrame([row]))
    with pytest.raises(InputError, match="winners from 0 to 4"):
        fig9._read(tmp_path / "b.tsv", BLOCKS)


N_IMAGES = 12


def write_group(folder, slopes, noise=0.0, min_ncsnr=0):
    """Subjects whose unique variance of z grows by a slope of their own; that of z_c is 0.1.

    Controls have `CONTROLS` of it, in every third voxel.
    """
    rng = np.random.default_rng(0)
    inside = np.zeros(SHAPE, bool)
    inside[tuple(VOXELS.T)] = True
    few = np.zeros(SHAPE, bool)
    few[:2, :2, :2] = True
    masks = {"all": np.ones(SHAPE, bool), "few": few, "mask": inside}
    for name, mask in masks.items():
        save_volume(folder / f"{name}.nii.gz", mask, np.diag([5, 5, 5, 1.0]))
    regions = {name: folder / f"{name}.nii.gz" for name in ("all", "few")}
    whole = cells.find_cells(folder / "mask.nii.gz", regions, every=3)
    ratio, every = np.where(Z < 10, 0.1, 0.5), np.arange(len(VOXELS))
    sums = {}
    for subject, slope in slopes.items():
        found = cells.Collector(whole, np.arange(N_IMAGES), min_ncsnr)

        def add(name, values, voxels=every, found=found):
            same = np.tile(np.asarray(values, float)[voxels], (N_IMAGES, 1))
            found.add(name, voxels, same, ratio[voxels])

        for space in ("z", "zc"):
            add(f"r:{space}", Z / 20)
        for percent, pair in zip(LEVELS, PAIRS, strict=True):
            values = 0.02 + slope * percent / 100 + noise * rng.normal(size=len(VOXELS))
            add(f"{pair}:z", values)
            add(f"{pair}:{pair[2:]}", np.full(len(VOXELS), 0.1))
            for control, value in CONTROLS.items():
                add(f"{pair}{control}:z", values, every[::3])
                name = f"{pair}{control}:{pair[2:]}{control}"
                add(name, np.full(len(VOXELS), value), every[::3])
        sums[subject] = [folder / f"{subject}.npz"]
        found.save(sums[subject][0])
    return sums


def tabulate(folder, sums, repeats=200):
    output = folder / "group.tsv"
    group_table.tabulate_group(sums=sums, output=output, repeats=repeats, seed=1)
    keys = ["subject", "roi", "measure", "space", "series", "level"]
    table = load_table(output)
    table = table.assign(series=table["series"].fillna("").astype(str)).fillna({"level": -1})
    return output, table.set_index(keys).sort_index()


def test_slopes_and_agreement_are_recovered(tmp_path):
    given = write_group(tmp_path, {"subj01": 0.3, "subj02": 0.1, "subj05": -0.1})
    _, table = tabulate(tmp_path, given)
    mean = table.loc[("mean", "all", "slope", "z", "noise", -1)]
    assert mean["value"] == pytest.approx(0.1, abs=1e-6)
    assert mean[["n_subjects", "n_positive", "n_agree", "n_clear"]].tolist() == [3, 2, 2, 2]
    own = table.loc[("subj05", "all", "slope", "z", "noise", -1)]
    assert own[["value", "ci_low", "ci_high"]].tolist() == pytest.approx([-0.1] * 3, abs=1e-6)
    level = table.loc[("subj01", "all", "unique", "z", "noise", 0.6)]
    assert level["value"] == pytest.approx(0.02 + 0.18) and level["n_voxels"] == len(VOXELS)


def test_controls_stand_beside_z_c_and_the_largest_is_taken_away(tmp_path):
    _, table = tabulate(tmp_path, write_group(tmp_path, {"subj01": 0.3, "subj02": 0.1}))
    for subject in ("subj01", "mean"):
        own = table.loc[(subject, "all", "unique")].xs(("noise", 0.6), level=("series", "level"))
        values = own["value"].to_dict()
        expected = {f"zc{name}": value for name, value in CONTROLS.items()} | {"zc": 0.1}
        # The rest of z_c is no control: of the others the empty text has most.
        expected |= {"z": values["z"], "zc-beyond": 0.1 - 0.04}
        assert values == pytest.approx(expected, abs=1e-6)
    row = table.loc[("subj01", "all", "unique", "zc-beyond", "noise", 0.6)]
    assert row["n_voxels"] == len(VOXELS[::3])


def test_voxels_below_the_noise_ceiling_are_left_out(tmp_path):
    _, table = tabulate(tmp_path, write_group(tmp_path, {"subj01": 0.1}, min_ncsnr=0.2))
    row = table.loc[("subj01", "all", "r", "z", "", -1)]
    assert row["value"] == pytest.approx(np.mean(np.arange(10, 20)) / 20)
    assert row["n_voxels"] == len(VOXELS) // 2


def test_the_interval_is_that_of_a_mean_over_cubes(tmp_path):
    """The same noise for all images: 1.96 standard errors over voxels, and slopes follow theirs."""
    given = write_group(tmp_path, {"subj01": 0.0}, noise=1.0)
    _, table = tabulate(tmp_path, given, repeats=2000)
    error = 1.96 / np.sqrt(len(VOXELS))
    level = table.loc[("subj01", "all", "unique", "z", "noise", 0.6)]
    assert (level["ci_high"] - level["ci_low"]) / 2 == pytest.approx(error, rel=0.1)
    slope = table.loc[("subj01", "all", "slope", "z", "noise", -1)]
    expected = error / np.sqrt(2 * 0.4**2)
    assert (slope["ci_high"] - slope["ci_low"]) / 2 == pytest.approx(expected, rel=0.1)


def test_too_few_cubes_have_no_interval(tmp_path):
    _, table = tabulate(tmp_path, write_group(tmp_path, {"subj01": 0.1}))
    row = table.loc[("subj01", "few", "unique", "z", "noise", 0.6)]
    assert row["n_cubes"] == 1 and np.isnan(row["ci_low"]) and np.isfinite(row["value"])


def test_a_subject_does_not_depend_on_the_others(tmp_path):
    both = write_group(tmp_path, {"subj01": 0.1, "subj02": 0.2}, noise=0.1)
    alone = {"subj02": both["subj02"]}
    tables = [tabulate(tmp_path, given)[1].loc["subj02"] for given in (both, alone)]
    pd.testing.assert_frame_equal(*tables)


# Standard deviations of what images, cubes and both together add, and the variance of a mean over
# a region that follows: of one subject, and of two that saw the same images.
SOURCES = {"images": (0.5, 0.02, 0.5), "cubes": (0.05, 0.3, 0.5), "noise": (0, 0, 3)}
N_SEEN, N_CUBES = 80, 40


def draw_subjects(folder, rng, sources):
    """Two subjects with a voxel a cube; what an image adds is the same for both."""
    by_image, by_cube, both = sources
    mask = np.ones((N_CUBES, 1, 1), bool)
    save_volume(folder / "line.nii.gz", mask, np.diag([10, 10, 10, 1.0]))
    whole = cells.find_cells(folder / "line.nii.gz", {"line": folder / "line.nii.gz"})
    image, sums = by_image * rng.standard_normal((N_SEEN, 1)), {}
    for subject in ("subj01", "subj02"):
        found = cells.Collector(whole, 100 + np.arange(N_SEEN), 0)
        cube = by_cube * rng.standard_normal(N_CUBES)
        noise = both * rng.standard_normal((N_SEEN, N_CUBES))
        found.add("r:z", np.arange(N_CUBES), 1 + image + cube + noise, np.ones(N_CUBES))
        sums[subject] = [folder / f"{subject}.npz"]
        found.save(sums[subject][0])
    return sums


@pytest.mark.parametrize("source", SOURCES)
def test_intervals_cover_the_truth_whether_images_or_cubes_or_both_vary(tmp_path, source):
    """The true mean is 1; widths are those of the variance that was planted."""
    rng, (by_image, by_cube, both) = np.random.default_rng(7), SOURCES[source]
    rest = by_cube**2 / N_CUBES + both**2 / (N_SEEN * N_CUBES)
    wanted = {"subj01": by_image**2 / N_SEEN + rest, "mean": by_image**2 / N_SEEN + rest / 2}
    covered, widths = {name: [] for name in wanted}, {name: [] for name in wanted}
    for _ in range(150):
        sums = draw_subjects(tmp_path, rng, SOURCES[source])
        _, table = tabulate(tmp_path, sums, repeats=200)
        for name in wanted:
            row = table.loc[(name, "line", "r", "z", "", -1)]
            covered[name].append(row["ci_low"] <= 1 <= row["ci_high"])
            widths[name].append(row["ci_high"] - row["ci_low"])
    for name, variance in wanted.items():
        assert 0.88 <= np.mean(covered[name]) <= 0.99, name
        expected = 2 * 1.96 * np.sqrt(variance)
        assert np.mean(widths[name]) == pytest.approx(expected, rel=0.1), name


def test_what_samples_add_is_how_scores_move_when_they_are_drawn_again():
    """numpy and scikit-learn score samples drawn again; what samples add foretells the change."""
    rng, n = np.random.default_rng(1), 400
    observed = rng.standard_normal((n, 3))
    joint = 0.7 * observed + 0.5 * rng.standard_normal((n, 3))
    without = 0.3 * observed + 0.5 * rng.standard_normal((n, 3))
    shares = {"r": stats.share_r(observed, joint)}
    shares["gain"] = stats.share_gain(observed, without, joint)

    def score(rows):
        y, a, b = observed[rows], joint[rows], without[rows]
        r = [np.corrcoef(y[:, k], a[:, k])[0, 1] for k in range(3)]
        gain = [r2_score(y[:, k], a[:, k]) - r2_score(y[:, k], b[:, k]) for k in range(3)]
        return {"r": np.array(r), "gain": np.array(gain)}

    whole = score(np.arange(n))
    changes = {name: [] for name in whole}
    for _ in range(200):
        rows = rng.integers(0, n, n)
        for name, value in score(rows).items():
            changes[name].append([value - whole[name], shares[name][rows].mean(0) - whole[name]])
    for name, share in shares.items():
        np.testing.assert_allclose(share.mean(axis=0), whole[name], atol=1e-10)
        true, foretold = np.moveaxis(np.array(changes[name]), 1, 0)
        assert np.corrcoef(true.ravel(), foretold.ravel())[0, 1] > 0.98
        assert foretold.std() == pytest.approx(true.std(), rel=0.05)


def test_the_group_figure_is_a_journal_figure(tmp_path, monkeypatch):
    given = write_group(tmp_path, {"subj01": 0.3, "subj02": 0.1}, noise=0.1)
    table, _ = tabulate(tmp_path, given)
    figures, save = [], group.save_figure
    monkeypatch.setattr(group, "save_figure", lambda p, f: figures.append(f) or save(p, f))
    outputs = {
        "png": tmp_path / "group.png",
        "pdf": tmp_path / "group.pdf",
        "tsv": tmp_path / "drawn.tsv",
    }
    group.plot_group(table=table, left_out=[], demo=True, **outputs)
    check_journal(outputs["png"], figures[0])
    words = [text.get_text() for text in all_texts(figures[0])]
    assert "2 subjects – simulated data (demo)" in words
    # The mean of the slopes planted, in the region of all voxels.
    assert any(re.fullmatch(r"\$z\$ slope \+0\.(199|20\d), 2/2", word) for word in words)
    # Trends share one scale, whatever their series, and controls are lines with names.
    trends = [axes for axes in figures[0].axes if axes.get_xlabel() == "Noise strength"]
    assert sum(word.startswith("$z_c$: ") for word in legend_texts(figures[0])) == 4
    values = {
        round(line.get_ydata()[0], 3) for line in trends[0].lines if len(line.get_xdata()) == 3
    }
    assert values >= set(CONTROLS.values())


def test_variants_stand_side_by_side_and_can_be_left_out(tmp_path, monkeypatch):
    rows = [
        *(("step", 0.5, 0.10), ("step", 1.0, 0.2), ("noise", 0.5, 0.9)),
        *(("step-shared", 0.5, 0.12), ("step-shared", 1.0, 0.2)),
        *(("step-seed43", 0.5, 0.07), ("step-seed43", 1.0, 0.3)),
    ]
    table = pd.DataFrame(rows, columns=["series", "level", "value"])
    table = table.assign(subject="mean", roi="early", measure="unique", space="zc")
    save_table(tmp_path / "group.tsv", table)
    group_table.tabulate_noise(table=tmp_path / "group.tsv", output=tmp_path / "noise.tsv")
    noise = load_table(tmp_path / "noise.tsv")
    assert list(noise) == [
        *("subject", "roi", "space", "level", "configured", "shared", "seed43", "range")
    ]
    expected = [[0.5, 0.1, 0.12, 0.07, 0.05], [1.0, 0.2, 0.2, 0.3, 0.1]]
    np.testing.assert_allclose(noise.iloc[:, 3:].to_numpy(float), expected)

    drawn = []
    monkeypatch.setattr(group, "draw_group", lambda numbers, demo: drawn.append(numbers))
    monkeypatch.setattr(group, "save_figure", lambda *_: None)
    whole = table.assign(**dict.fromkeys([*group.NUMBERS, *group.AGREEMENT], 1.0))
    save_table(tmp_path / "group.tsv", whole.assign(value=table["value"]))
    outputs = {"png": tmp_path / "g.png", "pdf": tmp_path / "g.pdf", "tsv": tmp_path / "g.tsv"}
    group.plot_group(table=tmp_path / "group.tsv", left_out=["seed43"], demo=False, **outputs)
    assert set(drawn[0]["series"]) == {"step", "step-shared", "noise"}
