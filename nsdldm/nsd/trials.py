"""Which image was shown in which trial, and which images a subject saw.

The release records this three times: in a subject's responses, in the design of the experiment and
in the table of stimuli. The readers here make all image ids 0-based (``nsd_id``), and the three
sources must agree.
"""

from __future__ import annotations

import csv
import logging
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.io import loadmat, whosmat

from nsdldm.nsd.layout import COCO_SPLITS, N_IMAGES, SUBJECTS, TRIALS_PER_SESSION
from nsdldm.nsd.matlab import MOST_BYTES, check_elements
from nsdldm.support.errors import Finding, InputError, Unexpected, reading
from nsdldm.support.files import save_table

logger = logging.getLogger(__name__)

N_DESIGNED = 30_000
N_SUBJECT_IMAGES = 10_000
N_SHARED = 1000
# Shape of the variables of nsd_expdesign.mat, and the largest number in each.
DESIGNED = {
    "masterordering": ((1, N_DESIGNED), N_SUBJECT_IMAGES),
    "subjectim": ((len(SUBJECTS), N_SUBJECT_IMAGES), N_IMAGES),
    "sharedix": ((1, N_SHARED), N_IMAGES),
}
# Columns of the table of stimuli that are not numbers, and their values.
CHOICES = {"cocoSplit": COCO_SPLITS, "shared1000": (False, True)}
REMEDY = "Use responses.tsv, nsd_expdesign.mat and nsd_stim_info_merged.csv of one release"


def read_responses(path: Path | str) -> pd.DataFrame:
    """Read a subject's behaviour.

    Parameters
    ----------
    path : str or Path
        ``responses.tsv``.

    Returns
    -------
    DataFrame
        One row per trial, in order, with int columns subject, session (from 1), trial (1 to 750 in
        its session) and nsd_id (0-based).

    Raises
    ------
    InputError
        The file is missing or lacks a column, or a column has other values than whole numbers.
    """
    columns = {"SUBJECT": "subject", "SESSION": "session", "73KID": "nsd_id"}
    with reading(path, f"tab-separated columns {', '.join(columns)}", small=True):
        table = _whole_numbers(_read_columns(path, "\t", columns), columns)
    table = table.rename(columns=columns)
    table["nsd_id"] -= 1
    table.insert(2, "trial", table.groupby("session").cumcount() + 1)
    return table


def read_design(path: Path | str, subject: str) -> tuple[np.ndarray, np.ndarray]:
    """Read the order in which the experiment planned to show images to a subject.

    Parameters
    ----------
    path : str or Path
        ``nsd_expdesign.mat``.
    subject : str
        subj01 to subj08.

    Returns
    -------
    nsd_ids : int64 array of shape (30000,)
        0-based image of each planned trial in 40 sessions.
    shared : int64 array of shape (1000,)
        0-based images meant for all subjects.

    Raises
    ------
    InputError
        The file is missing or its variables have other shapes.
    """
    number = SUBJECTS.index(subject)
    expected = "a MATLAB file with masterordering, subjectim and sharedix"
    with reading(path, expected, "Use nsd_expdesign.mat of the release", small=True):
        with open(path, "rb") as stream:
            listed = {name: shape for name, shape, _ in whosmat(stream)}
            stream.seek(0)
            check_elements(stream.read(MOST_BYTES))
        for name, (shape, _) in DESIGNED.items():
            if listed.get(name) != shape:
                found = f"of shape {listed[name]}, not {shape}" if name in listed else "missing"
                raise Unexpected(f"{name} {found}")
        with open(path, "rb") as stream:
            content = loadmat(stream, variable_names=list(DESIGNED))
        design = {name: _count_from_one(name, content[name]) for name in DESIGNED}
    order = design["masterordering"].ravel()
    return design["subjectim"][number, order - 1] - 1, design["sharedix"].ravel() - 1


def _count_from_one(name, values):
    """A variable of the design as int64; MATLAB chooses its width on disk."""
    last = DESIGNED[name][1]
    if values.dtype.kind not in "iuf" or not ((values >= 1) & (values <= last)).all():
        raise Unexpected(f"other than numbers from 1 to {last} in {name}")
    whole = values.astype(np.int64)
    if (whole != values).any():
        raise Unexpected(f"other than whole numbers in {name}")
    return whole


def _read_columns(path, separator, columns):
    """Columns of a text table in the order given, each of which must be there exactly once."""
    with open(path, encoding="utf-8-sig", newline="") as stream:
        header = next(csv.reader(stream, delimiter=separator), [])
        for name in columns:
            if header.count(name) != 1:
                raise Unexpected(f"the column {name} {header.count(name)} times")
        stream.seek(0)
        # Read all columns: with usecols, pandas would not notice rows that are too long.
        table = pd.read_csv(stream, sep=separator, low_memory=False)
    if not isinstance(table.index, pd.RangeIndex):
        raise Unexpected("rows with more fields than the header")
    return table[list(columns)]


def _whole_numbers(table, columns):
    """Convert columns to int64; all values must be whole numbers."""
    whole = {}
    for name in columns:
        values = pd.to_numeric(table[name], errors="coerce").to_numpy(np.float64, na_value=np.nan)
        # NaN equals nothing; no number in the release is as large as the maximum of int32.
        good = (values == np.rint(values)) & (np.abs(values) < 2**31)
        wrong = np.flatnonzero(~good if table[name].dtype != bool else np.ones_like(good))
        if len(wrong):
            found = str(table[name].iloc[wrong[0]])[:40]
            raise Unexpected(f"{found!r} in row {wrong[0] + 1} of {name}, not a whole number")
        whole[name] = values.astype(np.int64)
    return table.assign(**whole)


def read_stim_info(path: Path | str, subject: str) -> pd.DataFrame:
    """Read where the release's pictures come from and when a subject was meant to see them.

    Parameters
    ----------
    path : str or Path
        ``nsd_stim_info_merged.csv``.
    subject : str
        subj01 to subj08.

    Returns
    -------
    DataFrame
        Index nsd_id (0-based); columns coco_id, coco_split, shared (bool) and rep0, rep1, rep2: the
        planned trials (1 to 30000, including sessions that were never acquired; 0 = none).

    Raises
    ------
    InputError
        The file is missing, lacks a column, or does not number the images from 0.
    """
    prefix = f"subject{SUBJECTS.index(subject) + 1}_"
    columns = {
        "cocoId": "coco_id",
        "cocoSplit": "coco_split",
        "shared1000": "shared",
        **{f"{prefix}rep{repeat}": f"rep{repeat}" for repeat in range(3)},
    }
    with reading(path, f"comma-separated columns nsdId, {', '.join(columns)}", small=True):
        table = _read_columns(path, ",", ["nsdId", *columns])
        for name, allowed in CHOICES.items():
            if not table[name].isin(allowed).all():
                raise Unexpected(f"other than {' and '.join(map(str, allowed))} in {name}")
        table = _whole_numbers(table, [name for name in table if name not in CHOICES])
        table = table.rename(columns=columns).astype({"shared": bool})
    if not np.array_equal(table["nsdId"], np.arange(len(table))):
        found = "other numbers in the column nsdId"
        raise InputError(Finding(str(path), "images numbered from 0 in order", found, REMEDY))
    return table.drop(columns="nsdId").rename_axis("nsd_id")


def compare_accounts(
    *,
    subject: str,
    sessions: list[int],
    table: pd.DataFrame,
    planned: np.ndarray,
    shared: np.ndarray,
    stim_info: pd.DataFrame,
    responses: Path | str,
    design: Path | str,
    info: Path | str,
) -> list[Finding]:
    """Compare what responses, design and stimulus table say about a subject's trials.

    Parameters
    ----------
    subject : str
        subj01 to subj08.
    sessions : list of int
        The sessions to compare, from 1.
    table : DataFrame
        As returned by `read_responses`.
    planned, shared : int64 arrays of shape (n_planned,) and (n_shared,)
        As returned by `read_design`.
    stim_info : DataFrame
        As returned by `read_stim_info`.
    responses, design, info : str or Path
        The files, to name them.

    Returns
    -------
    list of Finding
        Empty when they agree.
    """
    findings = _compare_responses(subject, sessions, table, responses)
    listed = np.flatnonzero(stim_info["shared"])
    if not np.array_equal(np.sort(shared), listed):
        expected = f"the {len(shared)} shared images of {design} in the column shared1000"
        differing = np.setxor1d(shared, listed)
        found = f"{len(listed)} images, {len(differing)} of them in only one of the two files"
        findings.append(Finding(str(info), expected, found, REMEDY))
    trials = _selected(table, sessions)
    times = ((trials["session"] - 1) * TRIALS_PER_SESSION + trials["trial"] - 1).to_numpy()
    images = trials["nsd_id"].to_numpy()
    possible = (times >= 0) & (times < len(planned))
    wrong = np.flatnonzero(planned[times[possible]] != images[possible])
    if len(wrong):
        row = trials[possible].iloc[wrong[0]]
        expected = f"the images that {design} plans"
        found = f"others in {len(wrong)} trials, first in session {row.session} trial {row.trial}"
        findings.append(Finding(str(responses), expected, found, REMEDY))
    findings += _compare_repeats(images[possible], times[possible], stim_info, responses, info)
    return findings


def _selected(table, sessions):
    """Rows of the given sessions, in the order of the sessions."""
    return pd.concat([table[table["session"] == session] for session in sessions])


def _compare_responses(subject, sessions, table, responses):
    """Findings about a subject's responses alone."""
    findings = []
    others = sorted(set(table["subject"]) - {SUBJECTS.index(subject) + 1})
    if others:
        found = f"subject {', '.join(map(str, others[:3]))}"
        remedy = "Put every subject's responses.tsv into its own folder"
        findings.append(Finding(str(responses), f"trials of {subject}", found, remedy))
    counts = table["session"].value_counts()
    uneven = [session for session in sessions if counts.get(session, 0) != TRIALS_PER_SESSION]
    if uneven:
        found = ", ".join(f"{counts.get(each, 0)} in session {each}" for each in uneven[:5])
        found += f" and so on, {len(uneven)} sessions in all" if len(uneven) > 5 else ""
        remedy = "Use the responses.tsv that covers these sessions, or leave the sessions out"
        expected = f"{TRIALS_PER_SESSION} trials per session, one for each of its betas"
        findings.append(Finding(str(responses), expected, found, remedy))
    return findings


def _compare_repeats(images, times, stim_info, responses, info):
    """Findings about trials that the stimulus table does not list for their image."""
    known = (images >= 0) & (images < len(stim_info))
    if not known.all():
        expected = f"images from 1 to {len(stim_info)}, the rows of {info}"
        found = f"73KID {images[~known][0] + 1}"
        return [Finding(str(responses), expected, found, REMEDY)]
    repeats = stim_info[["rep0", "rep1", "rep2"]].to_numpy()[images]
    wrong = np.flatnonzero(~(repeats == times[:, None] + 1).any(axis=1))
    if not len(wrong):
        return []
    expected = f"the trials of {responses} in the columns subjectN_rep0 to rep2"
    trial = times[wrong[0]] + 1
    found = f"{len(wrong)} trials missing, first 73KID {images[wrong[0]] + 1} in trial {trial}"
    return [Finding(str(info), expected, found, REMEDY)]


def tabulate_trials(
    *,
    responses: Path | str,
    design: Path | str,
    stim_info: Path | str,
    trials: Path | str,
    images: Path | str,
    subject: str,
    sessions: list[int],
) -> None:
    """Write which image was shown in each trial, and the images shown.

    Parameters
    ----------
    responses, design, stim_info : str or Path
        ``responses.tsv`` of the subject, ``nsd_expdesign.mat``, ``nsd_stim_info_merged.csv``.
    trials : str or Path
        Output, a row per trial in the order of the betas: session (from 1), trial (1 to 750 in its
        session), nsd_id (0-based), repetition (1 to 3, counted from the subject's first session
        whatever `sessions` are), split (train, or test for the 1,000 shared images).
    images : str or Path
        Output, a row per image shown, by ascending nsd_id: nsd_id, coco_id, coco_split, split,
        n_trials (in these sessions).
    subject : str
        subj01 to subj08.
    sessions : list of int
        From 1, in the order of the betas.

    Raises
    ------
    InputError
        A file is unusable or the three disagree; all findings are reported at once.
    """
    table = read_responses(responses)
    planned, shared = read_design(design, subject)
    info = read_stim_info(stim_info, subject)
    findings = compare_accounts(
        subject=subject,
        sessions=sessions,
        table=table,
        planned=planned,
        shared=shared,
        stim_info=info,
        responses=responses,
        design=design,
        info=stim_info,
    )
    if findings:
        raise InputError(*findings)
    trial_rows = _selected(table, sessions)[["session", "trial", "nsd_id"]]
    trial_rows["repetition"] = _count_repetitions(planned)[
        (trial_rows["session"] - 1) * TRIALS_PER_SESSION + trial_rows["trial"] - 1
    ]
    trial_rows["split"] = np.where(info["shared"].to_numpy()[trial_rows["nsd_id"]], "test", "train")
    save_table(trials, trial_rows)
    image_rows = trial_rows.groupby("nsd_id", as_index=False).agg(
        split=("split", "first"), n_trials=("trial", "size")
    )
    image_rows = image_rows.join(info[["coco_id", "coco_split"]], on="nsd_id")
    save_table(images, image_rows[["nsd_id", "coco_id", "coco_split", "split", "n_trials"]])
    logger.info("%d trials: %s", len(trial_rows), trial_rows["split"].value_counts().to_dict())
    logger.info("%d images: %s", len(image_rows), image_rows["split"].value_counts().to_dict())


def _count_repetitions(planned):
    """For each planned trial, how often its image has been planned so far, including this trial."""
    return pd.Series(planned).groupby(planned).cumcount().to_numpy() + 1
