import logging

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from scipy.io import savemat
from scipy.sparse import csc_array

from nsdldm.nsd import layout
from nsdldm.nsd.imagery import (
    check_order,
    find_rows,
    prepare_imagery,
    read_columns,
    read_labels,
    read_pairs,
    read_target,
    score_order,
)
from nsdldm.nsd.stimuli import read_images
from nsdldm.support.errors import InputError
from nsdldm.support.files import save_array

# As in the fact sheet: the rows of each run, and letters and targets of each set.
ROWS = {
    **{"visA": (0, 48), "attA": (48, 144), "imgA_1": (144, 192), "visB": (192, 240)},
    **{"attB": (240, 336), "imgB_1": (336, 384), "visC": (384, 432), "attC": (432, 528)},
    **{"imgC_1": (528, 576), "imgA_2": (576, 624), "imgB_2": (624, 672), "imgC_2": (672, 720)},
}
CUES = {"A": "HRVLPE", "B": "WKBCDT", "C": "YSNZFM"}
WORDS = ("yellow", "stripes", "banana", "zebra", "fruit", "mammal")
NAMES = {**layout.IMAGERY_NAMES, "C": WORDS}
PREFIXES = {"vision": "vis", "imagery": "img", "attention": "att"}
OUTPUTS = {"trials": "trials.tsv", "images": "images.tsv", "pictures": "pictures.hdf5"}
# Column of the design of each target of a vision or imagery run, which is not that of the list.
SHUFFLED = (3, 0, 5, 1, 4, 2)
HEADER = ["SUBJECT", "SESSION", "RUN", "TRIAL", "CONDITION", "CUE", "FRAMEFILE", "RT"]


def make_labels(run):
    """Target of each trial, and for vision another letter in about half of them."""
    rng = np.random.default_rng(sum(map(ord, run)))
    labels = rng.permutation(np.repeat(np.arange(6), 8))
    cued = np.where(rng.random(48) < 0.5, labels, rng.integers(0, 6, 48))
    return labels, cued if run.startswith("vis") else labels


def write_run(path, run, labels=None):
    """One line per trial, in the columns that were seen of the release."""
    true, cued = make_labels(run)
    letters = CUES[run[3]]
    lines = ["\t".join(HEADER)]
    for trial, (target, cue) in enumerate(zip(true, cued, strict=True)):
        shown = letters[target] if labels is None else labels[trial]
        # What CONDITION says outside vision runs is not known.
        shown = shown if run.startswith("vis") else "?"
        letter = letters[cue] if labels is None else labels[trial]
        frame = f"{NAMES[run[3]][target]}_cue{letters[cue]}.png"
        lines.append("\t".join(["1", "1", "1", str(trial + 1), shown, letter, frame, "NaN"]))
    path.write_text("\n".join(lines) + "\n")


def write_pairs(path, name, change=None):
    cells = np.empty((6, 3), object)
    for row in range(6):
        suffix = "" if name == "C" else ".png"
        cells[row] = [row + 1.0, NAMES[name][row] + suffix, CUES[name][row]]
    if change:
        cells = change(cells)
    savemat(path, {"pair_list": cells})


def list_events(run, labels):
    """Column of the design, in the order of time."""
    kind = {"vis": 0, "att": 6, "imgA": 18, "imgB": 24, "imgC": 30}
    first = kind[run[:3]] if run[:3] in kind else kind[run[:4]]
    columns = [first + SHUFFLED[target] for target in labels]
    if run.startswith("att"):
        return [each for column in columns for each in (column, column + 6)]
    return columns


def write_design(path, change=None, sparse=False):
    cells = np.empty((1, 12), object)
    for place, run in enumerate(ROWS):
        labels = make_labels(run)[0]
        columns = list_events(run, labels if change != run else labels[::-1])
        matrix = np.zeros((10 + 4 * len(columns), 36))
        matrix[5 + 4 * np.arange(len(columns)), columns] = 1
        cells[0, place] = csc_array(matrix) if sparse else matrix
    savemat(path, {"stimulus": cells})


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """The files of one subject, as keywords of prepare_imagery."""
    folder = tmp_path_factory.mktemp("release")
    given = {"behaviour": {}, "pairs": {}, "targets": {}}
    for run in ROWS:
        given["behaviour"][run] = folder / f"nsdimagery_subj01_{run}.tsv"
        write_run(given["behaviour"][run], run)
    for name in "ABC":
        given["pairs"][name] = folder / f"{name}_pair_list.mat"
        write_pairs(given["pairs"][name], name)
    for number, target in enumerate([*NAMES["A"], *NAMES["B"]]):
        given["targets"][target] = folder / f"{target}.png"
        picture = np.full((850, 850, 3), 10 * number, np.uint8)
        picture[:425] += 100
        Image.fromarray(picture).save(given["targets"][target])
    return given


@pytest.fixture(scope="module")
def design(tmp_path_factory):
    path = tmp_path_factory.mktemp("design") / "designmatrixGLMsingle.mat"
    write_design(path)
    return path


def prepare(folder, **given):
    outputs = {name: folder / file for name, file in OUTPUTS.items()}
    prepare_imagery(**{"order": "chronological", **given, **outputs})
    tables = [pd.read_csv(outputs[name], sep="\t") for name in ("trials", "images")]
    return *tables, outputs["pictures"]


def test_the_session_has_the_documented_blocks():
    assert tuple(ROWS) == layout.IMAGERY_RUNS
    for run, (start, stop) in ROWS.items():
        assert find_rows(run) == slice(start, stop)


def expect_trials(task, order):
    """Number, repetition and use of each beta, from the description alone."""
    expected = [(-1, 0, "unused")] * 720
    seen = dict.fromkeys(range(18), 0)
    for run, (start, stop) in ROWS.items():
        if not run.startswith(PREFIXES[task]):
            continue
        targets = [6 * "ABC".index(run[3]) + target for target in make_labels(run)[0]]
        betas = targets
        if task == "attention":
            betas = [each for target in targets for each in (None, target)]
        if order == "by-condition":
            columns = list_events(run, make_labels(run)[0])
            betas = [
                beta
                for wanted in sorted({*columns})
                for beta, column in zip(betas, columns, strict=True)
                if column == wanted
            ]
        assert len(betas) == stop - start
        for row, target in enumerate(betas, start):
            if target is not None:
                seen[target] += 1
                expected[row] = (target, seen[target], "test" if target < 12 else "unused")
    return expected


@pytest.mark.parametrize("order", ["chronological", "by-condition"])
@pytest.mark.parametrize("task", PREFIXES)
def test_every_beta_has_its_target(files, design, tmp_path, task, order):
    trials, images, _ = prepare(tmp_path, **files, task=task, order=order, design=design)
    assert list(trials) == ["session", "trial", "nsd_id", "repetition", "split", "run"]
    assert (trials["session"] == 1).all()
    assert trials["trial"].tolist() == list(range(1, 721))
    for run, (start, stop) in ROWS.items():
        assert (trials["run"][start:stop] == run).all()
    found = zip(trials["nsd_id"], trials["repetition"], trials["split"], strict=True)
    assert [*found] == expect_trials(task, order)
    repeats = {"vision": 8, "imagery": 16, "attention": 8}[task]
    assert images["n_trials"].tolist() == [repeats] * 12 + [0] * 6


def test_chronological_betas_need_no_design(files, design, tmp_path):
    for task in PREFIXES:
        with_design = prepare(tmp_path / "a", **files, task=task, design=design)[0]
        pd.testing.assert_frame_equal(prepare(tmp_path / "b", **files, task=task)[0], with_design)


def test_targets_are_numbered_by_set_and_list(files, tmp_path):
    trials, images, _ = prepare(tmp_path, **files, task="imagery")
    assert list(images) == ["nsd_id", "name", "group", "split", "n_trials"]
    assert images["nsd_id"].tolist() == list(range(18))
    assert images["name"].tolist() == [*NAMES["A"], *NAMES["B"], *WORDS]
    assert "".join(images["group"]) == 6 * "A" + 6 * "B" + 6 * "C"
    assert images["split"].tolist() == ["test"] * 12 + ["unused"] * 6
    used = [t[t["split"] != "unused"] for t in (trials, images)]
    assert {*used[0]["nsd_id"]} == {*used[1]["nsd_id"]}


def test_numbers_follow_names_and_not_letters_or_rows(files, tmp_path):
    """With a list in another order, the same trials get the numbers of that order."""
    write_pairs(tmp_path / "A.mat", "A", lambda cells: cells[::-1])
    pairs = files["pairs"] | {"A": tmp_path / "A.mat"}
    trials, images, pictures = prepare(tmp_path, **files | {"pairs": pairs}, task="vision")
    assert images["name"][:6].tolist() == [*NAMES["A"]][::-1]
    np.testing.assert_array_equal(trials["nsd_id"][:48], 5 - make_labels("visA")[0])
    assert next(read_images(pictures, [5]))[-1, 0, 0] == 0


def test_pictures_are_resized_and_words_grey(files, tmp_path):
    pictures = [*read_images(prepare(tmp_path, **files, task="vision")[2], range(18))]
    for number, picture in enumerate(pictures[:12]):
        assert (picture[:212] == 10 * number + 100).all()
        # The middle row covers both halves.
        assert (picture[212] == 10 * number + 50).all()
        assert (picture[213:] == 10 * number).all()
    assert all((picture == 128).all() for picture in pictures[12:])


def test_transparent_parts_are_grey_and_other_modes_are_converted(tmp_path, caplog):
    path = tmp_path / "bar.png"
    values = np.zeros((425, 425, 4), np.uint8)
    values[:, :100] = (200, 100, 50, 255)
    Image.fromarray(values).save(path)
    picture = read_target(path)
    assert (picture[:, :100] == (200, 100, 50)).all()
    assert (picture[:, 100:] == 128).all()
    Image.fromarray(np.full((425, 500), 77, np.uint8)).save(path)
    assert (read_target(path) == 77).all()
    assert "bar.png: only the central square is used" in caplog.text


def test_labels_may_be_names(tmp_path, files):
    pairs = read_pairs(files["pairs"]["B"])
    labels = [NAMES["B"][target] + ".png" for target in make_labels("visB")[0]]
    write_run(tmp_path / "run.tsv", "visB", labels)
    np.testing.assert_array_equal(
        read_labels(tmp_path / "run.tsv", "CONDITION", pairs), make_labels("visB")[0]
    )


def test_trials_are_sorted_by_number(tmp_path, files):
    lines = files["behaviour"]["visA"].read_text().splitlines()
    (tmp_path / "run.tsv").write_text("\n".join([lines[0], *lines[:0:-1]]) + "\n")
    labels = read_labels(tmp_path / "run.tsv", "CONDITION", read_pairs(files["pairs"]["A"]))
    np.testing.assert_array_equal(labels, make_labels("visA")[0])


@pytest.mark.parametrize(
    "change, found",
    [
        (lambda text: text.replace("CONDITION", "CONDITIONS"), "CONDITION 0 times"),
        (lambda text: text.replace("CUE", "TRIAL"), "TRIAL 2 times"),
        (lambda text: text[: text.rindex("1\t1\t1\t48")], "others in 47 rows"),
        (lambda text: text.replace("\t48\t", "\t47\t"), "others in 48 rows"),
        (lambda text: text.replace("\t48\t", "\tlast\t"), "cannot be read"),
        (lambda text: text.replace("\tH\t", "\tW\t"), "'W'"),
        (lambda text: text.replace("\tH\t", "\t1\t"), "'1'"),
        (lambda text: text.replace("\tH\t", "\tR\t"), "H another number of times"),
        (lambda _: "", "cannot be read"),
    ],
)
def test_another_table_of_trials_is_refused(tmp_path, files, change, found):
    path = tmp_path / "nsdimagery_subj01_visA.tsv"
    path.write_text(change(files["behaviour"]["visA"].read_text()))
    pairs = read_pairs(files["pairs"]["A"])
    with pytest.raises(InputError, match=rf"subj01_visA\.tsv.*{found}"):
        read_labels(path, "CONDITION", pairs)


def double_name(cells):
    cells[1, 1] = cells[0, 1]
    return cells


def double_cue(cells):
    cells[1, 2] = cells[0, 2]
    return cells


def number_cue(cells):
    cells[4, 2] = 5.0
    return cells


def blank_name(cells):
    cells[4, 1] = ""
    return cells


@pytest.mark.parametrize(
    "change, found",
    [
        (lambda cells: cells[:5], r"pair_list of shape \(5, 3\)"),
        (double_name, "the same name twice"),
        (double_cue, "the same cue twice"),
        (number_cue, "where a text should be"),
        (blank_name, "where a text should be"),
    ],
)
def test_another_list_of_targets_is_refused(tmp_path, change, found):
    write_pairs(tmp_path / "A_pair_list.mat", "A", change)
    with pytest.raises(InputError, match=rf"A_pair_list\.mat.*{found}"):
        read_pairs(tmp_path / "A_pair_list.mat")


def test_damaged_cells_are_refused_before_they_crash_the_interpreter(files, tmp_path):
    content = bytearray(files["pairs"]["A"].read_bytes())
    # The tag of the last letter: type 4 (uint16) or 16 (UTF-8), in a small element.
    place = content.rindex(b"E\x00")
    content[place - 4] = 99
    path = tmp_path / "A_pair_list.mat"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"A_pair_list\.mat.*damaged data"):
        read_pairs(path)


@pytest.mark.parametrize("sparse", [False, True])
def test_columns_of_the_design_are_in_the_order_of_time(tmp_path, sparse):
    write_design(tmp_path / "design.mat", sparse=sparse)
    columns = read_columns(tmp_path / "design.mat")
    for run in ROWS:
        assert columns[run].tolist() == list_events(run, make_labels(run)[0])


def test_a_design_of_another_behaviour_is_refused(files, tmp_path):
    for run in ("visB", "imgA_2", "attC"):
        write_design(tmp_path / "design.mat", change=run)
        with pytest.raises(InputError, match=rf"design\.mat.*_{run}\.tsv.*columns in {run}"):
            prepare(tmp_path, **files, task="vision", design=tmp_path / "design.mat")


def test_a_design_with_other_events_is_refused(tmp_path):
    cells = np.empty((1, 12), object)
    cells[0] = [np.ones((48, 1))] * 12
    savemat(tmp_path / "design.mat", {"stimulus": cells})
    with pytest.raises(InputError, match=r"design\.mat.*found 48 in attA"):
        read_columns(tmp_path / "design.mat")


@pytest.mark.parametrize(
    "change, found",
    [
        ({"task": "dreaming"}, "`task`.*vision or imagery or attention.*dreaming"),
        ({"order": "random"}, "`order`.*chronological or by-condition.*random"),
        ({"order": "by-condition"}, "`design`.*designmatrixGLMsingle.mat"),
        ({"targets": {"other": "other.png"}}, r"A_pair_list\.mat and .*other.*bar_000"),
    ],
)
def test_wrong_arguments_are_named(files, tmp_path, change, found):
    with pytest.raises(InputError, match=found):
        prepare(tmp_path, **files | {"task": "vision"} | change)


@pytest.mark.parametrize("kind", ["behaviour", "pairs", "targets"])
def test_a_missing_or_damaged_file_is_named(files, tmp_path, kind):
    name = {"behaviour": "attB", "pairs": "C", "targets": NAMES["B"][2]}[kind]
    given = files | {kind: files[kind] | {name: tmp_path / "lost"}, "task": "vision"}
    with pytest.raises(InputError, match=r"lost: .*no such file"):
        prepare(tmp_path, **given)
    (tmp_path / "lost").write_bytes(b"\x89PNG but not really")
    with pytest.raises(InputError, match=r"lost: "):
        prepare(tmp_path, **given)


def score_plainly(betas, labels):
    """By its definition, pair by pair."""
    halves = [
        [betas[np.flatnonzero(labels == target)[half::2]].mean(axis=0) for target in range(6)]
        for half in (0, 1)
    ]
    points = [
        np.corrcoef(halves[0][i], halves[1][i])[0, 1]
        > np.corrcoef(halves[0][i], halves[1][j])[0, 1]
        for i in range(6)
        for j in range(6)
        if i != j
    ]
    return np.mean(points)


@pytest.mark.parametrize("seed", range(5))
def test_the_score_is_two_way_identification(seed):
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.repeat(np.arange(6), 8))
    betas = rng.normal(size=(48, 30)) + 0.3 * rng.normal(size=(6, 30))[labels] + 5
    np.testing.assert_allclose(score_order(betas, labels), score_plainly(betas, labels))


def test_the_score_is_one_with_and_a_half_without_targets():
    rng = np.random.default_rng(0)
    labels = rng.permutation(np.repeat(np.arange(6), 8))
    assert score_order(rng.normal(size=(6, 30))[labels], labels) == 1
    assert score_order(np.tile(rng.normal(size=30), (48, 1)), labels) == 0.5
    scores = [score_order(rng.normal(size=(48, 30)), labels) for _ in range(300)]
    np.testing.assert_allclose(np.mean(scores), 0.5, atol=0.03)


def plant_betas(path, true, signal=1.0, drift=0.0, seed=0):
    """Responses to what is on screen in vision runs, and noise that changes slowly."""
    rng = np.random.default_rng(seed)
    betas = rng.normal(size=(720, 50)) + 3
    slow = rng.normal(size=(720, 50)).cumsum(axis=0)
    betas += drift * slow
    for run in ("visA", "visB", "visC"):
        labels = make_labels(run)[0]
        if true == "by-condition":
            labels = np.repeat(SHUFFLED, 8)
        betas[slice(*ROWS[run])] += signal * rng.normal(size=(6, 50))[labels]
    betas[:, 7], betas[3, 8] = 1, np.nan
    save_array(path, betas.astype(np.float32))
    return path


@pytest.fixture
def check(files, tmp_path):
    """Call check_order on planted betas and return its table."""

    def check(order, **planted):
        path = plant_betas(tmp_path / "betas.npy", **planted)
        inputs = {name: files[name] for name in ("behaviour", "pairs")}
        check_order(betas=path, order=order, table=tmp_path / "order.tsv", **inputs)
        return pd.read_csv(tmp_path / "order.tsv", sep="\t")

    return check


@pytest.mark.parametrize("order", ["chronological", "by-condition"])
def test_the_right_order_is_found(check, order, tmp_path):
    other = next(name for name in layout.IMAGERY_ORDERS if name != order)
    table = check(order, true=order)
    assert list(table) == ["order", "run", "identification", "chance_high", "p"]
    assert table["run"].tolist() == ["visA", "visB", "visC", "all"] * 2
    mean = table[table["run"] == "all"].set_index("order")
    assert mean.loc[order, "identification"] > 0.95
    assert mean.loc[other, "identification"] < mean.loc[other, "chance_high"]
    assert mean["chance_high"].between(0.55, 0.9).all()
    assert mean.loc[order, "p"] < 0.01 < mean.loc[other, "p"]
    single = table[table["run"] != "all"].groupby("order")["identification"].mean()
    np.testing.assert_allclose(single[order], mean.loc[order, "identification"], atol=1e-5)
    with pytest.raises(InputError, match=rf"betas\.npy.*{other} betas.*`order` to {order}"):
        check(other, true=order)
    # The table is there to look at.
    assert (tmp_path / "order.tsv").exists()


def test_slow_changes_do_not_look_like_another_order(check):
    table = check("chronological", true="chronological", drift=0.6)
    mean = table[table["run"] == "all"].set_index("order")
    assert (mean["identification"] > mean["chance_high"]).all()
    with pytest.raises(InputError, match="to chronological"):
        check("by-condition", true="chronological", drift=0.6)


@pytest.mark.parametrize("order", layout.IMAGERY_ORDERS)
def test_slow_changes_alone_are_weak_data(check, caplog, order):
    table = check(order, true="chronological", signal=0.0, drift=0.6)
    grouped = table[(table["run"] == "all") & (table["order"] == "by-condition")].iloc[0]
    assert grouped["identification"] > grouped["chance_high"]
    assert grouped["p"] > 0.01
    assert "too weak" in caplog.text


@pytest.mark.parametrize("order", layout.IMAGERY_ORDERS)
def test_weak_data_only_warn(check, caplog, order):
    with caplog.at_level(logging.WARNING):
        table = check(order, true="chronological", signal=0.0)
    assert "too weak" in caplog.text
    assert len(table) == 8


def test_unusable_betas_are_refused(files, tmp_path):
    given = {name: files[name] for name in ("behaviour", "pairs")}
    given |= {"order": "chronological", "table": tmp_path / "order.tsv"}
    for shape in ((744, 5), (720,)):
        save_array(tmp_path / "betas.npy", np.zeros(shape, np.float32))
        with pytest.raises(InputError, match=r"betas\.npy.*720 betas.*shape"):
            check_order(betas=tmp_path / "betas.npy", **given)
    save_array(tmp_path / "betas.npy", np.full((720, 5), np.nan, np.float32))
    with pytest.raises(InputError, match=r"betas\.npy.*voxels that vary, found none"):
        check_order(betas=tmp_path / "betas.npy", **given)
    with pytest.raises(InputError, match=r"`order`.*alphabetical"):
        check_order(betas=tmp_path / "betas.npy", **given | {"order": "alphabetical"})
