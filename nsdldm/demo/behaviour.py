"""The behaviour of a simulated subject, who reports for each picture whether it was seen before."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from nsdldm.nsd.layout import SUBJECTS, TRIALS_PER_SESSION
from nsdldm.support.files import replacing

TRIALS_OF_RUN = (63, 62)  # odd and even runs
RUNS = 12
SECONDS_PER_TRIAL = 4.0
SECONDS_PER_RUN = 360.0  # with the pause
DAY = 86_400.0
FIRST_RUN = 10 * 3600.0  # after midnight
NO_RESPONSE, CHANGED_MIND = 0.02, 0.01
SAYS_OLD = {False: 0.2, True: 0.8}  # for new and old pictures
COLUMNS = [
    "SUBJECT",
    "SESSION",
    "RUN",
    "TRIAL",
    "73KID",
    "10KID",
    "TIME",
    "ISOLD",
    "ISCORRECT",
    "RT",
    "CHANGEMIND",
    "MEMORYRECENT",
    "MEMORYFIRST",
    "ISOLDCURRENT",
    "ISCORRECTCURRENT",
    "TOTAL1",
    "TOTAL2",
    "BUTTON",
    "MISSINGDATA",
]


def simulate_behaviour(
    *, subject: str, numbers: np.ndarray, nsd_ids: np.ndarray, rng: np.random.Generator
) -> pd.DataFrame:
    """Simulate the table of responses.

    Parameters
    ----------
    subject : str
        subj01 to subj08.
    numbers : int array of shape (n_trials,)
        1-based id of each trial's image among the subject's 10,000 (10KID).
    nsd_ids : int array of shape (n_trials,)
        0-based id of each trial's image in the release. Whole sessions, from the first.
    rng : numpy.random.Generator

    Returns
    -------
    DataFrame
        The release's 19 columns; all numbers count from 1, TIME is in days from midnight before
        the first session, RT in milliseconds. A row without response has missing values.
    """
    n = len(nsd_ids)
    runs = np.repeat(np.arange(1, RUNS + 1), [TRIALS_OF_RUN[run % 2] for run in range(RUNS)])
    position = np.concatenate([np.arange(TRIALS_OF_RUN[run % 2]) for run in range(RUNS)])
    sessions = n // TRIALS_PER_SESSION
    session = np.repeat(np.arange(1, sessions + 1), TRIALS_PER_SESSION)
    table = pd.DataFrame({"SUBJECT": SUBJECTS.index(subject) + 1, "SESSION": session})
    table["RUN"] = np.tile(runs, sessions)
    table["TRIAL"] = np.tile(position, sessions) + 1
    table["73KID"], table["10KID"] = nsd_ids + 1, numbers
    seconds = FIRST_RUN + (table["RUN"] - 1) * SECONDS_PER_RUN
    seconds += (table["TRIAL"] - 1) * SECONDS_PER_TRIAL
    table["TIME"] = 7 * (session - 1) + seconds / DAY
    return table.join([_recall(table), _press(table, rng)])[COLUMNS]


def _recall(table):
    """What the subject had seen before: ISOLD, ISOLDCURRENT, MEMORYRECENT, MEMORYFIRST."""
    trial = pd.Series(np.arange(len(table)))
    images = trial.groupby(table["73KID"])
    earlier = images.cumcount()
    recent = trial - images.shift(1) - 1
    first = (trial - images.transform("first") - 1).where(earlier >= 2)
    current = trial.groupby([table["SESSION"], table["73KID"]]).cumcount()
    return pd.DataFrame(
        {
            "ISOLD": (earlier > 0).astype("Int64"),
            "ISOLDCURRENT": (current > 0).astype("Int64"),
            "MEMORYRECENT": recent.astype("Int64"),
            "MEMORYFIRST": first.astype("Int64"),
        }
    )


def _press(table, rng):
    """The subject's button press (1 for new, 2 for old), when, and whether it was correct."""
    n = len(table)
    old, current = (_recall(table)[name] == 1 for name in ("ISOLD", "ISOLDCURRENT"))
    says_old = rng.random(n) < np.where(old, SAYS_OLD[True], SAYS_OLD[False])
    pressed = rng.random(n) >= NO_RESPONSE
    changed = rng.random(n) < CHANGED_MIND
    reaction = 250 + rng.lognormal(np.log(600), 0.35, n)
    columns = {
        "ISCORRECT": says_old == old,
        "ISCORRECTCURRENT": says_old == current,
        "CHANGEMIND": changed,
        "BUTTON": says_old + 1,
    }
    answers = pd.DataFrame({name: np.asarray(values, int) for name, values in columns.items()})
    answers = answers.astype("Int64")
    answers.loc[~pressed] = pd.NA
    answers["RT"] = np.where(pressed, reaction, np.nan)
    answers["TOTAL1"] = (pressed & (~says_old | changed)).astype(int)
    answers["TOTAL2"] = (pressed & (says_old | changed)).astype(int)
    answers["MISSINGDATA"] = 0
    return answers


def write_responses(path: Path | str, table: pd.DataFrame) -> None:
    """Write responses like the release: tabs, all digits, missing values as NaN.

    Parameters
    ----------
    path : str or Path
    table : DataFrame
        As returned by `simulate_behaviour`.
    """
    with replacing(path) as part:
        table.to_csv(part, sep="\t", index=False, na_rep="NaN")
