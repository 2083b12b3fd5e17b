"""Plan the simulated experiment: which subject sees which image in which trial."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from nsdldm.nsd.layout import N_IMAGES, SUBJECTS, TRIALS_PER_SESSION
from nsdldm.support.errors import Finding, InputError

N_SESSIONS = 40
N_SHARED = 1000
N_SUBJECT_IMAGES = 10_000
REPEATS = 3
RUNS, SLOTS = 12, 75
# Trials in odd and even runs; six of each make 750 trials.
TRIALS_PER_RUN = (63, 62)
# Empty slots at the beginning and at the end of every run.
LEAD_IN, LEAD_OUT = 3, 4
# Fraction of shared images shown three times and twice.
SHOWN_THRICE, SHOWN_TWICE = 0.8, 0.12


class Design(NamedTuple):
    """The order of trials and the images behind its numbers; everything counts from 1.

    Parameters
    ----------
    masterordering : int64 array of shape (30000,)
        For every trial of 40 sessions, one of a subject's 10,000 image numbers, each three times;
        the same for all subjects. Numbers up to 1000 are shared images.
    subjectim : int64 array of shape (8, 10000)
        NSD id (1 to 73000) behind every image number.
    sharedix : int64 array of shape (1000,)
        NSD ids of the shared images, ascending.
    """

    masterordering: np.ndarray
    subjectim: np.ndarray
    sharedix: np.ndarray


def make_design(seed: int, sessions: int, shared_images: int, unique_images: int) -> Design:
    """Plan an experiment whose first sessions are run.

    Like the release's plan, it shows 10,000 images three times to everyone; but here the number of
    images in the sessions that are run can be chosen, so that a few sessions have enough repeats.

    Parameters
    ----------
    seed : int
    sessions : int
        Sessions run, of 40.
    shared_images : int
        Shared images in them: about 80 % three times, 12 % twice and 8 % once.
    unique_images : int
        Images in them that only one subject sees: one to three times each.

    Returns
    -------
    Design
        Repeats are in different sessions if there are enough, and otherwise far apart.

    Raises
    ------
    InputError
        The trials of these sessions cannot be filled this way.
    """
    counts = _count_presentations(sessions, shared_images, unique_images)
    rng = np.random.default_rng([seed, 1])
    shown = np.zeros(N_SUBJECT_IMAGES, dtype=np.int64)
    groups = np.split(np.arange(N_SUBJECT_IMAGES), [N_SHARED])
    for numbers, repeats in zip(groups, counts, strict=True):
        shown[rng.choice(numbers, len(repeats), replace=False)] = repeats
    order = [_deal(rng, shown, sessions), _deal(rng, REPEATS - shown, N_SESSIONS - sessions)]
    images = rng.permutation(N_IMAGES) + 1
    shared = np.sort(images[:N_SHARED])
    everyone, unique = np.tile(shared, (len(SUBJECTS), 1)), images[N_SHARED:]
    return Design(
        masterordering=np.concatenate(order) + 1,
        subjectim=np.hstack([everyone, unique.reshape(len(SUBJECTS), -1)]),
        sharedix=shared,
    )


def count_within_sessions(masterordering: np.ndarray) -> np.ndarray:
    """Count the images of each session by how often they occur in it (the design's `basiccnt`).

    Parameters
    ----------
    masterordering : int array of shape (30000,)

    Returns
    -------
    int64 array of shape (3, 40)
        Images shown once, twice and three times within each session.
    """
    counts = [
        np.bincount(np.unique(session, return_counts=True)[1], minlength=REPEATS + 1)[1:]
        for session in np.split(np.asarray(masterordering), N_SESSIONS)
    ]
    return np.stack(counts, axis=1)


def plan_slots(seed: int) -> np.ndarray:
    """Choose which 4-s slots of every run show an image (the design's `stimpattern`).

    Parameters
    ----------
    seed : int

    Returns
    -------
    uint8 array of shape (40, 12, 75)
        1 where session, run and slot show an image: 63 in the first, third ... run, 62 in the
        others. Runs start and end with empty slots; the other empty slots are scattered in between.
    """
    rng = np.random.default_rng([seed, 2])
    pattern = np.ones((N_SESSIONS, RUNS, SLOTS), dtype=np.uint8)
    pattern[:, :, :LEAD_IN] = pattern[:, :, -LEAD_OUT:] = 0
    inner = SLOTS - LEAD_IN - LEAD_OUT
    for session, run in np.ndindex(N_SESSIONS, RUNS):
        n_empty = inner - TRIALS_PER_RUN[run % 2]
        spaced = LEAD_IN + np.arange(1, n_empty + 1) * inner // (n_empty + 1)
        pattern[session, run, spaced + rng.integers(-2, 3, n_empty)] = 0
    return pattern


def _count_presentations(sessions, shared_images, unique_images):
    """How often each shared and each unique image is shown, as two arrays of 1 to 3."""
    trials = sessions * TRIALS_PER_SESSION
    thrice, twice = round(SHOWN_THRICE * shared_images), round(SHOWN_TWICE * shared_images)
    shared = np.repeat([3, 2, 1], [thrice, twice, shared_images - thrice - twice])
    rest = trials - shared.sum()
    fewest = -(-rest // REPEATS)
    most = min(rest, N_SUBJECT_IMAGES - N_SHARED)
    if not (1 <= sessions <= N_SESSIONS and 1 <= shared_images <= N_SHARED and fewest <= most):
        expected = f"1 to {N_SESSIONS} sessions and as many shared images (1 to {N_SHARED})"
        expected += " as leave room for others"
        found = f"sessions: {sessions}, shared_images: {shared_images}"
        where, remedy = "`sessions`, `shared_images`", "Change one of them"
        raise InputError(Finding(where, expected, found, remedy))
    if not fewest <= unique_images <= most:
        expected = f"{fewest} to {most} images, since {sessions} sessions with {shared_images}"
        expected += f" shared images leave {rest} trials for others"
        remedy = "Change it, `shared_images` or `sessions`"
        raise InputError(Finding("`unique_images`", expected, str(unique_images), remedy))
    return shared, _spread(rest, unique_images)


def _spread(trials, images):
    """Repeats (1 to 3) of images that fill a number of trials, a quarter of them shown twice."""
    extra = trials - images
    most_twice = min(extra, 2 * images - extra)
    twice = min(images // 4, most_twice)
    # The remaining images are shown three times, so the remainder must be even.
    if (extra - twice) % 2:
        twice += 1 if twice < most_twice else -1
    thrice = (extra - twice) // 2
    return np.repeat([3, 2, 1], [thrice, twice, images - thrice - twice])


def _deal(rng, repeats, sessions):
    """Distribute presentations of images (numbers from 0) over sessions.

    Presentations are dealt to sessions like cards, those of one image in succession, so that two
    are in the same session only if there are more of them than sessions. Then they are kept apart.
    """
    images = rng.permutation(len(repeats))
    dealt = np.repeat(images, repeats[images])
    order = []
    for session in range(sessions):
        hand = dealt[session::sessions]
        # Presentation i of k in the session belongs to the i-th k-th of it.
        _, image, again = np.unique(hand, return_inverse=True, return_counts=True)
        which = _count_before(hand)
        place = (which + rng.uniform(0, 0.9, len(again))[image]) / again[image]
        order.append(hand[np.argsort(place + rng.uniform(0, 0.02, len(hand)))])
    return np.concatenate(order) if order else dealt


def _count_before(values):
    """For every element, the number of equal ones before it."""
    order = np.argsort(values, kind="stable")
    _, starts, counts = np.unique(values[order], return_index=True, return_counts=True)
    before = np.empty(len(values), dtype=np.int64)
    before[order] = np.arange(len(values)) - np.repeat(starts, counts)
    return before
