"""Figure 5 of Yang et al. 2025: decoders trained on one subject and on all, tested on each."""

from __future__ import annotations

import logging
from pathlib import Path

import pandas as pd

from nsdldm.nsd.stimuli import read_images
from nsdldm.plots.fig4 import find_shared_images
from nsdldm.plots.pictures import (
    DEMO,
    DEMO_NOTE,
    PER_BLOCK,
    PRESENTED,
    Cell,
    Column,
    Section,
    Showing,
    best_samples,
    choose_images,
    describe_best,
    describe_choice,
    draw_pictures,
    format_score,
    name_method,
    name_metric,
    rank_samples,
    read_pictures,
    split_method,
    tabulate_shown,
)
from nsdldm.plots.style import journal_style, save_figure
from nsdldm.support.files import save_table

logger = logging.getLogger(__name__)

LETTERS = "abcdefgh"
DIFFERENT = "Voxels of different subjects do not correspond"
WRAPPED = f"{DIFFERENT}: responses are only adjusted to the same length."
ADAPTED = f"{DIFFERENT}: the joint model has an adapter for each subject."
CONTROL = (
    "On subjects that it was not trained on, a single-subject model is therefore a control (what "
    "it draws without a signal that it can use), not a transfer between brains."
)


def plot_trained_subjects(
    *,
    stimuli: str | Path,
    images: dict[str, Path],
    reconstructions: dict[tuple[str, str], Path],
    samples: dict[tuple[str, str], Path],
    showing: Showing,
    adapters: bool,
    demo: bool,
    png: Path,
    pdf: Path,
    tsv: Path,
) -> None:
    """Draw images that all subjects saw, and their reconstruction by each decoder from each
    subject.

    Images are ranked by the best sample's score of the last decoder, averaged over subjects, and
    chosen by `nsdldm.plots.pictures.choose_images`. Below, the mean score over all shared test
    images and samples is given for every training and subject.

    Parameters
    ----------
    stimuli : str or Path
        ``nsd_stimuli.hdf5``.
    images : dict of path
        For each subject tested the table of images.
    reconstructions, samples : dict of path
        Keys (method, subject): pictures as HDF5, and the scores of every sample. Methods such as
        ``fcae-subj01`` and ``fcae-joint`` say whom they were trained on; all of them need all
        subjects of `images`.
    showing : Showing
    adapters : bool
        The joint model has its own linear map for each subject.
    demo : bool
        Say on the figure that the data are simulated.
    png, pdf, tsv : path
        Outputs: the figure, and what it shows with the columns of `nsdldm.plots.fig3.plot_fig3`.

    Raises
    ------
    InputError
        Subjects share no test image, files do not fit together, or the metric was not computed.
    """
    metric, *chosen_by = showing
    methods = list(dict.fromkeys(method for method, _ in reconstructions))
    numbers = find_shared_images(images)
    best = {key: best_samples(path, metric, numbers) for key, path in samples.items()}
    ranking = pd.DataFrame({s: best[methods[-1], s]["value"] for s in images}).mean(axis=1)
    chosen = choose_images(ranking, *chosen_by)
    shown = {key: table.loc[chosen["nsd_id"]] for key, table in best.items()}
    sections = _make_sections(stimuli, chosen, methods, list(images), reconstructions, shown)
    wide = len(methods) * len(chosen) <= PER_BLOCK
    counts = {name_method(key[0]): int(table["of"].max()) for key, table in shown.items()}
    everyone = "" if len(images) == 1 else f", mean of {len(images)} subjects"
    by = f"the best sample in {LETTERS[len(methods) - 1]}{everyone}"
    means = {
        key: rank_samples(path, metric, numbers)["value"].mean() for key, path in samples.items()
    }
    notes = [
        ADAPTED if adapters else WRAPPED,
        CONTROL,
        describe_best(metric, counts),
        _describe_means(means, methods, list(images), metric, len(numbers)),
        describe_choice(chosen, len(numbers), by),
        *([DEMO_NOTE] if demo else []),
    ]
    title = "Trained on one subject and on all, tested on each" + (f" – {DEMO}" if demo else "")
    with journal_style():
        figure = draw_pictures(
            title=title,
            notes=notes,
            rows=[(PRESENTED, "image"), *((subject, "tested") for subject in images)],
            blocks=[sections] if wide else [[section] for section in sections],
        )
        save_figure((png, pdf), figure)
    logger.info("images %s of %d that all saw", chosen["nsd_id"].tolist(), len(numbers))
    labelled = {(subject, method): table for (method, subject), table in shown.items()}
    save_table(tsv, tabulate_shown(chosen, labelled, metric))


def describe_training(method: str) -> str:
    """Say on whom a method was trained."""
    cohort = split_method(method)[1]
    return {"joint": "all subjects", "": "its own subject"}.get(cohort, f"{cohort} alone")


def _make_sections(stimuli, chosen, methods, subjects, reconstructions, shown):
    """One section per decoder: presented images above the reconstructions from each subject."""
    numbers = chosen["nsd_id"].tolist()
    seen = list(read_images(stimuli, numbers))
    sections = []
    for letter, method in zip(LETTERS, methods, strict=False):
        columns = [
            Column(f"rank {rank}", [Cell(picture, f"NSD {number}", framed=True)])
            for rank, picture, number in zip(chosen["rank"], seen, numbers, strict=True)
        ]
        for subject in subjects:
            table = shown[method, subject]
            wanted = zip(numbers, table["sample"], strict=True)
            pictures = read_pictures(reconstructions[method, subject], wanted)
            for column, picture, value in zip(columns, pictures, table["value"], strict=True):
                column.cells.append(Cell(picture, format_score(value)))
        base = name_method(split_method(method)[0])
        heading = f"{letter}  {base} trained on {describe_training(method)}"
        sections.append(Section(heading, columns))
    return sections


def _describe_means(means, methods, subjects, metric, n_images):
    """Give the mean score of each decoder over all images of each subject."""
    parts = [
        f"{subject} {' / '.join(format_score(means[method, subject]) for method in methods)}"
        for subject in subjects
    ]
    letters = " / ".join(LETTERS[: len(methods)])
    words = f"Mean {name_metric(metric)} over all {n_images} test images and samples, {letters}"
    return f"{words}: {', '.join(parts)}."
