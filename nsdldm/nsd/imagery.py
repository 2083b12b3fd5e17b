"""Read NSD-Imagery: what was seen, imagined or attended to in which trial.

One more session of 12 runs: three tasks with 18 targets in three sets, A (bars and crosses), B
(scenes) and C (words, of which there are no pictures). A letter cues the target of a trial. In
vision runs the letter matches the picture on screen in half the trials only; there, the target is
what was on screen (CONDITION). In the other runs it is what the letter stands for (CUE).

The release does not document the order of the betas within a run. GLMsingle returns them in the
order of time (``chronological``); some readers found them grouped by the columns of the design
matrix (``by-condition``). `check_order` finds out which.
"""

from __future__ import annotations

import csv
import logging
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from nsdldm.nsd.layout import (
    IMAGE_PIXELS,
    IMAGERY_DESIGN,
    IMAGERY_ORDERS,
    IMAGERY_RUNS,
    IMAGERY_SETS,
    IMAGERY_TRIALS,
    TASKS,
)
from nsdldm.nsd.matlab import read_variable
from nsdldm.nsd.pictures import resize_square, save_pictures
from nsdldm.support.errors import Finding, InputError, Unexpected, reading
from nsdldm.support.files import load_array, save_table

logger = logging.getLogger(__name__)

N_TARGETS = 6
REPEATS = 8
TRIALS_PER_RUN = N_TARGETS * REPEATS
# The task of a run by the start of its name, and the column that says what its target is.
KINDS = {"vis": "vision", "img": "imagery", "att": "attention"}
VISION_RUNS = [run for run in IMAGERY_RUNS if KINDS[run[:3]] == "vision"]
LABELS = {"vision": "CONDITION", "imagery": "CUE", "attention": "CUE"}
GREY = 128
# The order of betas is decided by identification better than in so many random labellings.
LEVEL, N_PERMUTATIONS = 0.99, 1000


def find_rows(run: str) -> slice:
    """Rows of a run among the betas of the session.

    Parameters
    ----------
    run : str
        One of `IMAGERY_RUNS`, such as visA.

    Returns
    -------
    slice
        Of 48 rows; of 96 in attention runs, whose trials have a beta of the cue and one of the
        stream of pictures in which the target is detected.
    """
    counts = [TRIALS_PER_RUN * (1 + name.startswith("att")) for name in IMAGERY_RUNS]
    place = IMAGERY_RUNS.index(run)
    return slice(sum(counts[:place]), sum(counts[: place + 1]))


def read_pairs(path: Path | str) -> pd.DataFrame:
    """Read the targets of a set and their cues.

    Parameters
    ----------
    path : str or Path
        ``A_pair_list.mat``, whose cells are number, target and cue of each target.

    Returns
    -------
    DataFrame
        Six rows in the order of the list: name (without .png), cue (a letter).

    Raises
    ------
    InputError
        The file is missing, has other cells, or names a target or cue twice.
    """
    cells = read_variable(path, "pair_list", (N_TARGETS, 3))
    with reading(path, "the number, the target and the cue of six targets in pair_list"):
        rows = [[_read_text(cell) for cell in row] for row in cells[:, 1:]]
        table = pd.DataFrame(rows, columns=["name", "cue"])
        table["name"] = table["name"].str.removesuffix(".png")
        for column in table:
            if table[column].duplicated().any():
                raise Unexpected(f"the same {column} twice")
    return table


def _read_text(cell):
    """The text in a cell, which scipy wraps into an array."""
    text = np.asarray(cell).ravel()
    if len(text) != 1 or not isinstance(text[0], str) or not text[0].strip():
        raise Unexpected(f"{str(cell)[:40]} where a text should be")
    return text[0].strip()


def read_labels(path: Path | str, column: str, pairs: pd.DataFrame) -> np.ndarray:
    """Read the target of each trial of a run.

    Parameters
    ----------
    path : str or Path
        ``nsdimagery_subjXX_visA.tsv``.
    column : {"CONDITION", "CUE"}
        Where the target is, as its cue or name.
    pairs : DataFrame
        As returned by `read_pairs`, of the run's set.

    Returns
    -------
    int64 array of shape (48,)
        Row of the target in `pairs`, by ascending TRIAL.

    Raises
    ------
    InputError
        The file is missing or lacks a column; it does not have the trials 1 to 48, names a target
        of another set, or does not have each target eight times.
    """
    wanted = ("TRIAL", column)
    with reading(path, f"tab-separated columns {' and '.join(wanted)}", small=True):
        with open(path, encoding="utf-8-sig", newline="") as stream:
            header, *rows = csv.reader(stream, delimiter="\t", strict=True)
        for name in wanted:
            if header.count(name) != 1:
                raise Unexpected(f"the column {name} {header.count(name)} times")
        places = [header.index(name) for name in wanted]
        values = [[row[place].strip() for place in places] for row in rows if row]
    with reading(path, f"the trials 1 to {TRIALS_PER_RUN}"):
        numbers = [int(number) for number, _ in values]
        if sorted(numbers) != list(range(1, TRIALS_PER_RUN + 1)):
            raise Unexpected(f"others in {len(numbers)} rows")
    known = {key: row for name in pairs for row, key in enumerate(pairs[name])}
    targets = f"{', '.join(pairs['cue'])} {REPEATS} times each in {column}"
    with reading(path, targets, "Use the files of one release, under their own names"):
        told = [
            text.removesuffix(".png") for _, (_, text) in sorted(zip(numbers, values, strict=True))
        ]
        others = sorted({*told} - {*known})
        if others:
            raise Unexpected(f"{others[0][:40]!r}")
        labels = np.array([known[text] for text in told])
        counts = np.bincount(labels, minlength=N_TARGETS)
        if (counts != REPEATS).any():
            raise Unexpected(
                f"{pairs['cue'][(counts != REPEATS).argmax()]} another number of times"
            )
    return labels


def read_columns(path: Path | str) -> dict[str, np.ndarray]:
    """Read the column of the design matrix that each beta belongs to.

    Parameters
    ----------
    path : str or Path
        ``designmatrixGLMsingle.mat``: for each run a matrix of volumes and columns, 1 where an
        event of the column begins.

    Returns
    -------
    dict of int64 array of shape (48,) or (96,)
        Of each run, in the order of time.

    Raises
    ------
    InputError
        The file is missing, or a run has another number of events.
    """
    cells = read_variable(path, "stimulus", (1, len(IMAGERY_RUNS))).ravel()
    columns = {}
    with reading(path, "48 events in each run, 96 in attention runs, in stimulus"):
        for run, cell in zip(IMAGERY_RUNS, cells, strict=True):
            matrix = cell.toarray() if hasattr(cell, "toarray") else np.asarray(cell)
            _, columns[run] = np.nonzero(matrix)
            rows = find_rows(run)
            if len(columns[run]) != rows.stop - rows.start:
                raise Unexpected(f"{len(columns[run])} in {run}")
    return columns


def _list_events(labels, run):
    """Target of each beta of a run in the order of time; -1 - target for the cue of attention."""
    if KINDS[run[:3]] != "attention":
        return labels
    return np.stack([-1 - labels, labels], axis=1).ravel()


def _sort_by_column(events, run, columns, design, behaviour):
    """Events in the order of the design's columns, which must be those of the behaviour."""
    pairs = {*zip(columns.tolist(), events.tolist(), strict=True)}
    if len(pairs) != len({*columns.tolist()}) or len(pairs) != len({*events.tolist()}):
        found = f"columns in {run} that mix them"
        remedy = "Use the files of one release"
        expected = f"one column for each target of {behaviour}"
        raise InputError(Finding(str(design), expected, found, remedy))
    return events[np.argsort(columns, kind="stable")]


def _check_known(order):
    """Refuse an order that does not exist."""
    if order not in IMAGERY_ORDERS:
        raise InputError(Finding("`order`", " or ".join(IMAGERY_ORDERS), str(order), "Correct it"))


def read_session(
    *,
    behaviour: dict[str, Path | str],
    pairs: dict[str, Path | str],
    order: str,
    design: Path | str | None = None,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Read the target of every beta of the session.

    Parameters
    ----------
    behaviour : dict of str to path
        As `read_labels` takes it, by run.
    pairs : dict of str to path
        As `read_pairs` takes it, by set.
    order : {"chronological", "by-condition"}
        Of the betas within a run: that of time, or by column of the design and by time within it.
    design : str or Path, optional
        As `read_columns` takes it. Needed for by-condition; if given, it must agree with the
        behaviour whatever the order.

    Returns
    -------
    trials : DataFrame
        A row per beta: run, task, target (0 to 17, or -1 for the cue of an attention trial).
    targets : DataFrame
        A row per target: name, cue, group (the set).

    Raises
    ------
    InputError
        A file is unusable, or the design does not agree with the behaviour.
    """
    _check_known(order)
    if design is None and order == "by-condition":
        expected = f"{Path(IMAGERY_DESIGN).name}, which says which column is which target"
        remedy = "Give it, or set the order to chronological"
        raise InputError(Finding("`design`", expected, "nothing", remedy))
    lists = {name: read_pairs(pairs[name]) for name in IMAGERY_SETS}
    columns = None if design is None else read_columns(design)
    rows = []
    for run in IMAGERY_RUNS:
        task, name = KINDS[run[:3]], run[3]
        events = _list_events(read_labels(behaviour[run], LABELS[task], lists[name]), run)
        if columns is not None:
            grouped = _sort_by_column(events, run, columns[run], design, behaviour[run])
            events = grouped if order == "by-condition" else events
        target = np.where(events < 0, -1, events + N_TARGETS * IMAGERY_SETS.index(name))
        rows.append(pd.DataFrame({"run": run, "task": task, "target": target}))
    targets = pd.concat([each.assign(group=name) for name, each in lists.items()])
    return pd.concat(rows, ignore_index=True), targets.reset_index(drop=True)


def read_target(path: Path | str) -> np.ndarray:
    """Read the picture of a target.

    Parameters
    ----------
    path : str or Path
        A PNG; transparent parts become grey.

    Returns
    -------
    uint8 array of shape (425, 425, 3)
        The central square.

    Raises
    ------
    InputError
        The file is missing or no picture.
    """
    with reading(path, "a PNG picture", small=True), Image.open(path, formats=["PNG"]) as stored:
        picture = stored.convert("RGBA")
    ground = Image.new("RGBA", picture.size, (GREY, GREY, GREY, 255))
    values = np.asarray(Image.alpha_composite(ground, picture))[..., :3]
    if values.shape[0] != values.shape[1]:
        logger.warning("%s: only the central square is used", path)
    return resize_square(values)


def prepare_imagery(
    *,
    behaviour: dict[str, Path | str],
    pairs: dict[str, Path | str],
    targets: dict[str, Path | str],
    task: str,
    order: str,
    trials: Path | str,
    images: Path | str,
    pictures: Path | str,
    design: Path | str | None = None,
) -> None:
    """Write a subject's tables of trials and images of one task, and the pictures.

    Words have no picture, so they are not used. Of an attention trial, only the beta of the stream
    is used, not that of the cue.

    Parameters
    ----------
    behaviour, pairs, order, design
        As `read_session` takes them.
    targets : dict of str to path
        PNG of each target of the sets A and B, by name without .png.
    task : {"vision", "imagery", "attention"}
    trials : str or Path
        Output, a row per beta of the session: session (1), trial (1 to 720), nsd_id (row of the
        picture, from 0; -1 in other tasks), repetition (from 1, in this task; 0 in others), split
        (test, or unused), run.
    images : str or Path
        Output, a row per target: nsd_id, name, group (A, B or C), split, n_trials (that are used).
    pictures : str or Path
        Output, HDF5 as of the release: imgBrick, uint8 (18, 425, 425, 3); words are grey.

    Raises
    ------
    InputError
        As `read_session` and `read_target`; or the picture of a target is missing.
    """
    if task not in TASKS:
        raise InputError(Finding("`task`", " or ".join(TASKS), str(task), "Correct it"))
    session, table = read_session(behaviour=behaviour, pairs=pairs, order=order, design=design)
    drawn = (table["group"] != "C").to_numpy()
    missing = [name for name in table["name"][drawn] if name not in targets]
    if missing:
        where = " and ".join(str(pairs[name]) for name in IMAGERY_SETS[:2])
        found = f"{len(missing)} others, such as {missing[0]}"
        remedy = "Use pair lists and pictures of the release"
        raise InputError(Finding(where, f"the targets {', '.join(targets)}", found, remedy))
    made = (read_target(targets[name]) for name in table["name"][drawn])
    # Before the words, which come last.
    words = [np.full((IMAGE_PIXELS, IMAGE_PIXELS, 3), GREY, np.uint8)] * (~drawn).sum()
    save_pictures(pictures, [*made, *words], len(table))
    numbers = np.where(session["task"] == task, session["target"], -1)
    used = (numbers >= 0) & drawn[numbers]
    rows = pd.DataFrame({"session": 1, "trial": np.arange(1, IMAGERY_TRIALS + 1)})
    rows["nsd_id"] = numbers
    counted = rows.groupby("nsd_id").cumcount() + 1
    rows["repetition"] = np.where(numbers >= 0, counted, 0)
    rows["split"], rows["run"] = np.where(used, "test", "unused"), session["run"]
    table["nsd_id"], table["split"] = np.arange(len(table)), np.where(drawn, "test", "unused")
    table["n_trials"] = np.bincount(numbers[used], minlength=len(table))
    save_table(trials, rows)
    save_table(images, table[["nsd_id", "name", "group", "split", "n_trials"]])
    message = "%s: %d trials of %d targets; %d words are not used, for lack of a picture"
    logger.info(message, task, used.sum(), drawn.sum(), len(words))


def score_order(betas: np.ndarray, labels: np.ndarray) -> float:
    """Identify the targets of a run from one half of its trials to the other.

    Parameters
    ----------
    betas : float array of shape (48, n_voxels)
        In any order, without NaN.
    labels : int array of shape (48,)
        Target of each row, from 0 to 5.

    Returns
    -------
    float
        Over pairs of targets, how often the mean of a target's odd repeats correlates better with
        that of its own even repeats than with another's; ties count one half. Chance is 0.5.
    """
    return _identify(_multiply(betas), np.asarray(labels)[None])[0]


def _multiply(betas):
    """Products of all pairs of patterns without their means, from which correlations follow."""
    centred = np.asarray(betas, np.float64)
    centred = centred - centred.mean(axis=1, keepdims=True)
    return centred @ centred.T


def _identify(products, labels):
    """As `score_order`, for each row of labels."""
    members = (labels[:, None] == np.arange(N_TARGETS)[:, None]).astype(np.float64)
    odd = members * (members.cumsum(axis=2) % 2)
    even = members - odd
    crossed = np.einsum("kir,rs,kjs->kij", odd, products, even, optimize=True)
    squares = [
        np.einsum("kir,rs,kis->ki", half, products, half, optimize=True) for half in (odd, even)
    ]
    norms = np.sqrt(squares[0])[:, :, None] * np.sqrt(squares[1])[:, None]
    r = np.divide(crossed, norms, out=np.zeros_like(crossed), where=norms > 0)
    own = np.einsum("kii->ki", r)[:, :, None]
    points = (own > r) + 0.5 * (own == r)
    # Every target ties with itself.
    return (points.sum(axis=(1, 2)) - N_TARGETS / 2) / (N_TARGETS * (N_TARGETS - 1))


def _standardise(betas, path):
    """z-score the voxels of a run, without those that lack data or never vary."""
    betas = np.asarray(betas, np.float64)
    good = np.isfinite(betas).all(axis=0) & (np.ptp(betas, axis=0) > 0)
    if not good.any():
        remedy = "Use the betas of NSD-Imagery and a region inside the brain"
        raise InputError(Finding(str(path), "voxels that vary", "none", remedy))
    betas = betas[:, good]
    return (betas - betas.mean(axis=0)) / betas.std(axis=0)


def _contrast_blocks(products):
    """How much less similar betas are across the borders of blocks of 8 than just beside them.

    For blocks that begin at 0, and for those that begin 1 to 7 betas earlier; at equal distance in
    time, so that slow changes have no part in it.
    """
    norms = np.sqrt(np.diag(products))
    r = products / norms[:, None] / norms
    contrasts = np.zeros(REPEATS)
    for offset in range(REPEATS):
        found = []
        for last in range(REPEATS - 1 - offset, TRIALS_PER_RUN, REPEATS):
            for lag in range(1, REPEATS // 2 + 1):
                if last < lag or last + 1 + lag >= TRIALS_PER_RUN:
                    continue
                starts = np.arange(last - lag + 1, last + 1)
                beside = (r[last - lag, last] + r[last + 1, last + 1 + lag]) / 2
                found.append(beside - r[starts, starts + lag].mean())
        contrasts[offset] = np.mean(found)
    return contrasts


def _summarise_order(order, scores, chance, rarer):
    """Rows of the table of `check_order` of one order; the last is the mean over runs."""
    chance = [*chance, np.mean(chance, axis=0)]
    return pd.DataFrame(
        {
            "order": order,
            "run": [*VISION_RUNS, "all"],
            "identification": [*scores, np.mean(scores)],
            "chance_high": [np.quantile(values, LEVEL) for values in chance],
            "p": rarer,
        }
    )


def _score_orders(betas, behaviour, pairs, path, seed):
    """The table of `check_order`."""
    rng = np.random.default_rng(seed)
    grouped = np.repeat(np.arange(N_TARGETS), REPEATS)
    scores, chance, contrasts = {order: [] for order in IMAGERY_ORDERS}, [], []
    for run in VISION_RUNS:
        known = read_labels(behaviour[run], LABELS["vision"], read_pairs(pairs[run[3]]))
        products = _multiply(_standardise(betas[find_rows(run)], path))
        # By whichever column: which target it is of does not matter here.
        for order, labels in zip(IMAGERY_ORDERS, (known, grouped), strict=True):
            scores[order].append(_identify(products, labels[None])[0])
        shuffled = rng.permuted(np.tile(grouped, (N_PERMUTATIONS, 1)), axis=1)
        chance.append(_identify(products, shuffled))
        contrasts.append(_contrast_blocks(products))
    own = scores[IMAGERY_ORDERS[0]]
    drawn = [*chance, np.mean(chance, axis=0)]
    labelled = [
        (1 + (null >= score).sum()) / (1 + N_PERMUTATIONS)
        for score, null in zip([*own, np.mean(own)], drawn, strict=True)
    ]
    # Every run's blocks begin at any of 8 places.
    summed = np.add.outer(np.add.outer(contrasts[0], contrasts[1]), contrasts[2])
    placed = [(each >= each.flat[0]).mean() for each in (*contrasts, summed)]
    tables = [
        _summarise_order(order, scores[order], chance, rarer)
        for order, rarer in zip(IMAGERY_ORDERS, (labelled, placed), strict=True)
    ]
    return pd.concat(tables, ignore_index=True)


def check_order(
    *,
    betas: Path | str,
    behaviour: dict[str, Path | str],
    pairs: dict[str, Path | str],
    order: str,
    table: Path | str,
    seed: int = 0,
) -> None:
    """Check the order of a subject's betas by what was on screen in the vision runs.

    Trials of a target are only similar if the order is right. Slow changes also make neighbouring
    betas similar, which looks like grouping by condition; so betas must be more similar within
    blocks of eight than across their borders, and where both orders are above chance, the
    chronological one is right.

    Parameters
    ----------
    betas : str or Path
        ``.npy`` (720, n_voxels) of early visual cortex.
    behaviour, pairs
        As `read_session` takes them.
    order : {"chronological", "by-condition"}
        The order that is assumed.
    table : str or Path
        Output, a row per order and vision run, and one for the mean over runs (run ``all``): order,
        run, identification (as `score_order`, voxels z-scored in the run; chance 0.5), chance_high
        (99 % of random labellings are below it), p (chronological: share of random labellings that
        are as good; by-condition: share of other borders of blocks that are as clear, at least 1/8
        in a run and 1/512 over three).
    seed : int

    Raises
    ------
    InputError
        The betas have another order than is assumed, or a file is unusable. If neither order is
        above chance, a warning says so instead.
    """
    _check_known(order)
    values = load_array(betas)
    if values.ndim != 2 or len(values) != IMAGERY_TRIALS:
        expected = f"a row for each of {IMAGERY_TRIALS} betas"
        remedy = "Extract the session of NSD-Imagery again"
        raise InputError(Finding(str(betas), expected, f"shape {values.shape}", remedy))
    rows = _score_orders(values, behaviour, pairs, betas, seed)
    save_table(table, rows)
    means = rows[rows["run"] == "all"].set_index("order")
    for name, row in means.iterrows():
        message = "betas in %s order: the six targets of a vision run are identified with %.2f "
        message += "(chance 0.50, 99 %% of random labellings below %.2f; p %.3f)"
        logger.info(message, name, row["identification"], row["chance_high"], row["p"])
    clear = (means["identification"] > means["chance_high"]) & (means["p"] < 1 - LEVEL)
    above = means.index[clear]
    best = next((name for name in IMAGERY_ORDERS if name in above), None)
    if best is None:
        message = "%s: targets of the vision runs cannot be told apart in either order, so the "
        message += "data are too weak to check that the betas are %s"
        logger.warning(message, betas, order)
    elif best != order:
        scores = ", ".join(f"{means['identification'][name]:.2f} {name}" for name in IMAGERY_ORDERS)
        found = f"{best} ones (identification of seen targets: {scores}, chance 0.50)"
        raise InputError(Finding(str(betas), f"{order} betas", found, f"Set `order` to {best}"))
