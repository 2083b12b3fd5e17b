import h5py
import numpy as np
import pandas as pd
import pytest
from nesting import nest
from PIL import Image
from reconstruction_files import METHODS, NUMBERS, PSM, SUBJECTS, colour, save, write_all
from test_plots_decoding import check_print, colours_of, keep_figure, said

from nsdldm.plots import trained_curves, trained_masked, trained_subjects
from nsdldm.plots.pictures import (
    LABELS,
    Showing,
    describe_method,
    name_method,
    name_metric,
    split_method,
)
from nsdldm.plots.style import NORMAL, SMALL, journal_style, new_figure, pixels
from nsdldm.support.errors import InputError
from nsdldm.support.files import load_table

TRAINED = (
    "fcae",
    "fcae-base",
    "fcae-f",
    "fcae-fi",
    "fcae-ft",
    "mae-f",
    "mae-fi",
    "mind-vis",
    "vis-dec",
)

# Names


def test_whom_a_method_was_trained_on_is_in_its_name():
    for method, parts in {
        "fcae": ("fcae", ""),
        "fcae-joint": ("fcae", "joint"),
        "mae-fi-subj07": ("mae-fi", "subj07"),
        "vis-dec": ("vis-dec", ""),
        "joint": ("joint", ""),
    }.items():
        assert split_method(method) == parts
    assert name_method("fcae-joint") == "fCAE, joint"
    assert describe_method("fcae-joint") == "all subjects"
    assert describe_method("mind-vis-subj01") == "of subj01"
    assert name_method("new-subj01", mathematics=False) == "new, subj01"
    assert describe_method("new") == "" and name_method("new") == "new"


def test_every_trained_method_has_a_name_of_its_own_that_fits():
    names = [name_method(method) for method in (*TRAINED, *METHODS)]
    assert len(set(names)) == len(names) and not set(TRAINED) & set(names)
    with journal_style():
        figure = new_figure(10, 10)
        for method in TRAINED:
            for words, size in ((name_method(method), NORMAL), (describe_method(method), SMALL)):
                width = figure.text(0, 0, words, size=size).get_window_extent().width
                assert width <= pixels(LABELS - 1.5), words


def test_new_metrics_have_names():
    assert name_metric("clipscore:clip-b32") == "CLIP score (clip-b32)"
    assert name_metric("nway-50:vit-h-14") == "50-way identification (vit-h-14)"


# Masked responses

N_TEST, N_VOXELS, SHOWN = 9, 64, 32
STEPS, GAIN = (0, -0.1, 0.1), (0.4, 0.3, 0.5)


def write_masked(folder, **changes):
    """Responses that the model fills in better in later rows, and errors of two encoders."""
    rng = np.random.default_rng(0)
    true = rng.standard_normal((N_TEST, N_VOXELS)).astype("f4")
    visible = np.zeros((N_TEST, N_VOXELS), bool)
    visible[:, 8:24] = True
    noise = rng.standard_normal(true.shape).astype("f4") * np.arange(N_TEST, 0, -1)[:, None] / 4
    arrays = {"true": true, "visible": visible, "model": true + noise, "mean": 0 * true}
    arrays |= {"neighbour": np.roll(true, 1, axis=1), "nsd_id": np.arange(N_TEST) * 10}
    arrays |= changes
    with h5py.File(folder / "masked.h5", "w") as file:
        for name, values in arrays.items():
            file[name] = values
    rows = [
        (encoder, predictor, N_TEST, *(mse + worse + step for step in STEPS), *GAIN)
        for encoder, worse in (("mind-vis", 0.2), ("fcae", 0.0))
        for predictor, mse in (("model", 0.6), ("mean", 1.0), ("neighbour", 1.8))
    ]
    columns = [*trained_masked.ERRORS, *trained_masked.GAINS]
    save(folder / "errors.tsv", pd.DataFrame(rows, columns=columns))
    return arrays


def draw_masked(folder, patch, **changes):
    kept = keep_figure(patch, trained_masked)
    given = {"reconstructions": folder / "masked.h5", "errors": folder / "errors.tsv"}
    given |= {"encoder": "fcae", "n_images": 3, "n_voxels": SHOWN, "demo": True}
    outputs = {suffix: folder / f"masked.{suffix}" for suffix in ("png", "pdf", "tsv")}
    trained_masked.plot_masked_responses(**given | outputs | changes)
    return kept[0], load_table(outputs["tsv"]), outputs["png"]


def strips_of(figure):
    """Values of the strips from top to bottom, masked arrays."""
    images = [(axes, image) for axes in figure.axes for image in axes.get_images()]
    images.sort(key=lambda pair: -pair[0].get_position().y1)
    return [image.get_array()[0] for _, image in images]


def test_strips_show_what_was_measured_seen_and_filled_in(tmp_path, monkeypatch):
    arrays = write_masked(tmp_path)
    figure, table, path = draw_masked(tmp_path, monkeypatch)
    check_print(figure, path)
    hidden = ~arrays["visible"][0]
    r = [
        np.corrcoef(arrays["true"][i, hidden], arrays["model"][i, hidden])[0, 1]
        for i in range(N_TEST)
    ]
    order = np.argsort(r)[::-1]
    # Two best, and the middle of the other seven.
    rows = order[[0, 1, 5]]
    strips = strips_of(figure)
    assert len(strips) == 9
    for number, row in enumerate(rows):
        measured, seen, filled = strips[3 * number : 3 * number + 3]
        np.testing.assert_array_equal(measured, arrays["true"][row, :SHOWN])
        np.testing.assert_array_equal(seen.mask, hidden[:SHOWN])
        np.testing.assert_array_equal(
            seen[~seen.mask], arrays["true"][row, :SHOWN][~hidden[:SHOWN]]
        )
        np.testing.assert_array_equal(filled.mask, ~hidden[:SHOWN])
        np.testing.assert_array_equal(
            filled[~filled.mask], arrays["model"][row, :SHOWN][hidden[:SHOWN]]
        )
    words = said(figure)
    assert "the first 32 of 64 voxels" in words and "75 % of it hidden" in words
    assert f"NSD {10 * rows[0]}, rank 1, $r$ = {r[rows[0]]:.2f}" in words
    assert "filled in by fCAE – simulated data (demo)" in words and "simulated brain" in words
    shown = table[(table["predictor"] == "model") & table["rank"].notna()].sort_values("rank")
    assert shown["nsd_id"].tolist() == (10 * rows).tolist() and len(table) == 3 * N_TEST
    own = table[table["predictor"] == "mean"]
    assert own["r"].isna().all()
    expected = np.square(arrays["true"][:, hidden]).mean(axis=1)
    np.testing.assert_allclose(own["mse"], expected, rtol=1e-5)


def test_faint_filling_is_drawn_stronger_and_says_so(tmp_path, monkeypatch):
    model = write_masked(tmp_path)["true"] / 6.5
    arrays = write_masked(tmp_path, model=model)
    figure, *_ = draw_masked(tmp_path, monkeypatch)
    filled = strips_of(figure)[2]
    hidden = ~arrays["visible"][0, :SHOWN]
    shown = 6 * arrays["model"][:, :SHOWN][:, hidden]
    assert any(np.allclose(filled[~filled.mask], row) for row in shown)
    words = said(figure)
    assert "filled in × 6" in words and "amplified by a factor of 6" in words


def test_errors_stand_beside_what_knows_no_context(tmp_path, monkeypatch):
    write_masked(tmp_path)
    figure, *_ = draw_masked(tmp_path, monkeypatch, demo=False)
    labels = ["fCAE", "MinD-Vis", "training mean", "nearest voxel"]
    axes = next(
        each for each in figure.axes if [t.get_text() for t in each.get_yticklabels()] == labels
    )
    places = {
        line.get_ydata()[0]: line.get_xdata()[0] for line in axes.lines if line.get_marker() in "os"
    }
    assert places == pytest.approx({0: 0.6, 1: 0.8, 2: 1.0, 3: 1.8})
    words = said(figure)
    assert "demo" not in words
    assert "paired by image: training mean +0.400 (0.300 to 0.500), nearest voxel +0.400" in words


def test_unusable_masked_responses_are_refused(tmp_path, monkeypatch):
    for changes, found in (
        ({"mean": np.zeros((N_TEST, 3))}, r"shapes \(9, 3\), \(9, 64\)"),
        ({"visible": np.ones((N_TEST, N_VOXELS), bool)}, "without hidden voxels"),
        ({"nsd_id": np.arange(4)}, "shapes"),
    ):
        write_masked(tmp_path, **changes)
        with pytest.raises(InputError, match=found):
            draw_masked(tmp_path, monkeypatch)
    (tmp_path / "masked.h5").write_bytes(b"no HDF5")
    with pytest.raises(InputError, match="responses true, visible"):
        draw_masked(tmp_path, monkeypatch)


# One subject and all

TRAININGS = {"fcae-subj01": "z", "fcae-joint": "c"}


def draw_subjects(folder, patch, n_images=3, **changes):
    files = write_all(folder)
    kept = keep_figure(patch, trained_subjects)
    runs = [(method, subject) for method in TRAININGS for subject in SUBJECTS]
    given = {
        name: {(m, s): files[name][s, TRAININGS[m]] for m, s in runs}
        for name in ("reconstructions", "samples")
    }
    given |= {key: files[key] for key in ("stimuli", "images")}
    given |= {"best_by": PSM, "shown_images": n_images, "adapters": False, "demo": True}
    outputs = {suffix: folder / f"subjects.{suffix}" for suffix in ("png", "pdf", "tsv")}
    trained_subjects.plot_trained_subjects(**nest(given | outputs | changes, showing=Showing))
    return kept[0], load_table(outputs["tsv"]), outputs["png"], files


def test_trainings_stand_side_by_side_and_are_labelled_for_what_they_are(tmp_path, monkeypatch):
    figure, table, path, files = draw_subjects(tmp_path, monkeypatch)
    check_print(figure, path)
    shown = colours_of(figure)
    assert [len(row) for row in shown] == [6] * 3
    numbers = [sorted(NUMBERS, reverse=True)[place] for place in (0, 1, 5)]
    for row, subject in enumerate(SUBJECTS, 1):
        for place, number in enumerate(numbers):
            for block, method in enumerate(TRAININGS.values()):
                sample = table.query(
                    "subject == @subject and nsd_id == @number and method == @name",
                    local_dict={
                        "subject": subject,
                        "number": number,
                        "name": list(TRAININGS)[block],
                    },
                )["sample"].item()
                expected = tuple(map(int, colour(subject, method, number, sample)))
                assert shown[row][3 * block + place] == expected
    words = said(figure)
    assert "a  fCAE trained on subj01 alone" in words and "b  fCAE trained on all" in words
    assert "do not correspond" in words and "not a transfer" in words
    assert "adapter" not in words and "best sample in b, mean of 2 subjects" in words
    means = []
    for method in TRAININGS.values():
        scores = load_table(files["samples"]["subj02", method])
        means.append(f"{scores[scores['metric'] == PSM]['value'].mean():.2f}")
    assert f"subj02 {means[0]} / {means[1]}" in words


def test_more_images_put_trainings_below_each_other(tmp_path, monkeypatch):
    figure, table, path, _ = draw_subjects(
        tmp_path, monkeypatch, n_images=6, adapters=True, demo=False
    )
    check_print(figure, path)
    assert [len(row) for row in colours_of(figure)] == [6] * 6
    assert len(table) == 6 * 4 and "an adapter for each subject" in said(figure)
    assert "simulated" not in said(figure)


# Curves


def write_curve(path, parts, n=20, **columns):
    steps = np.arange(1, n + 1)
    table = {
        "step": 10 * steps,
        "epoch": steps / 2,
        "learning_rate": 1e-3 / steps,
        "loss": 2 + 3 / steps,
    }
    table |= {part: (k + 1) / steps for k, part in enumerate(parts)}
    validation = np.where(steps % 5 == 0, 2.5 + np.abs(steps - 15) / 10, np.nan)
    save(path, pd.DataFrame(table | {"validation": validation} | columns))
    return path


def draw_curves(folder, patch, curves, **changes):
    kept = keep_figure(patch, trained_curves)
    given = {"curves": curves, "cohort": "joint", "demo": True}
    given |= {suffix: folder / f"curves.{suffix}" for suffix in ("png", "pdf")}
    trained_curves.plot_training_curves(**given | changes)
    return kept[0], folder / "curves.png"


def test_curves_have_losses_parts_and_validation_images(tmp_path, monkeypatch):
    curves = {
        f"training {k}": write_curve(tmp_path / f"{k}.tsv", parts)
        for k, parts in enumerate((["noise"], ["self_contrast", "alignment"], [], ["a", "b"]))
    }
    write_curve(tmp_path / "0.tsv", ["noise"], seconds=60.0 * np.arange(1, 21))
    figure, path = draw_curves(tmp_path, monkeypatch, curves)
    check_print(figure, path)
    assert len(figure.axes) == 4
    labels = [[t.get_text() for t in axes.get_legend().get_texts()] for axes in figure.axes]
    assert labels[0] == ["loss", "validation"]
    assert labels[1] == ["self contrast", "alignment", "loss", "validation"]
    lines = {line.get_label(): line for line in figure.axes[1].lines}
    np.testing.assert_allclose(lines["loss"].get_ydata(), 2 + 3 / np.arange(1, 21), rtol=1e-5)
    np.testing.assert_allclose(lines["validation"].get_xdata(), [2.5, 5, 7.5, 10])
    ring = figure.axes[1].lines[-1]
    assert (ring.get_xdata()[0], ring.get_ydata()[0]) == (7.5, 2.5)
    words = said(figure)
    for wanted in (
        "Training, joint",
        "training 3",
        "200 steps, 20 min, learning rate at most 0.001",
        "demo",
    ):
        assert wanted in words
    assert words.count("200 steps, learning rate at most") == 3


def test_a_curve_that_falls_far_has_a_logarithmic_axis_and_needs_no_validation(
    tmp_path, monkeypatch
):
    curves = {
        name: write_curve(tmp_path / f"{name}.tsv", [], validation=np.nan, loss=loss)
        for name, loss in (("deep", np.geomspace(1, 0.01, 20)), ("flat", np.linspace(1, 0.5, 20)))
    }
    figure, _ = draw_curves(tmp_path, monkeypatch, curves, demo=False)
    assert [axes.get_yscale() for axes in figure.axes] == ["log", "linear"]
    assert [len(axes.lines) for axes in figure.axes] == [1, 1]
    save(tmp_path / "deep.tsv", pd.DataFrame({"step": [1], "loss": [1.0]}))
    with pytest.raises(InputError, match=r"deep\.tsv: .* found no epoch, learning_rate"):
        draw_curves(tmp_path, monkeypatch, curves)


def test_the_first_drop_does_not_flatten_the_rest(tmp_path, monkeypatch):
    loss = np.r_[90.0, 2.0, np.linspace(1.1, 1.0, 18)]
    curves = {"one": write_curve(tmp_path / "one.tsv", [], validation=np.nan, loss=loss)}
    # Of a loss that ends below a twentieth of its first value all is shown, on another axis.
    curves |= {"two": write_curve(tmp_path / "two.tsv", [], validation=np.nan, loss=loss + 10)}
    figure, _ = draw_curves(tmp_path, monkeypatch, curves)
    low, high = figure.axes[1].get_ylim()
    assert figure.axes[0].get_yscale() == "log"
    assert 10.9 < low < 11 and 11.1 < high < 11.2
    assert "The first 10 % may lie above" in said(figure)


def test_the_same_curves_give_the_same_bytes(tmp_path, monkeypatch):
    curves = {"one": write_curve(tmp_path / "one.tsv", ["a", "b"])}
    _, path = draw_curves(tmp_path, monkeypatch, curves)
    first = path.read_bytes()
    draw_curves(tmp_path, monkeypatch, curves)
    assert path.read_bytes() == first
    with Image.open(path) as image:
        assert image.size[0] == 2126
