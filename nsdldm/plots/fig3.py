"""Figure 3: images shown to a subject, and their reconstructions from z, c and z_c."""

import logging
from pathlib import Path

from nsdldm.nsd.stimuli import read_images
from nsdldm.plots.pictures import (
    DEMO,
    DEMO_NOTE,
    PRESENTED,
    Cell,
    Column,
    Showing,
    best_samples,
    choose_images,
    describe_best,
    describe_choice,
    describe_method,
    draw_pictures,
    format_score,
    name_method,
    read_pictures,
    read_test_images,
    split_method,
    split_sections,
    tabulate_shown,
)
from nsdldm.plots.style import journal_style, save_figure
from nsdldm.support.errors import Finding, InputError
from nsdldm.support.files import save_table

logger = logging.getLogger(__name__)


def plot_fig3(
    *,
    subject: str,
    stimuli: str | Path,
    images: str | Path,
    reconstructions: dict[str, Path],
    samples: dict[str, Path],
    showing: Showing,
    demo: bool,
    png: Path,
    pdf: Path,
    tsv: Path,
    ranked_by: str = "zc",
    words: dict[str, str] | None = None,
) -> None:
    """Draw the images one subject saw above their reconstructions, one column per image.

    For each image and method the best sample is shown, as in the paper, and the figure says so. The
    images are chosen by `nsdldm.plots.pictures.choose_images`.

    Parameters
    ----------
    subject : str
    stimuli : str or Path
        ``nsd_stimuli.hdf5``.
    images : str or Path
        Table of the subject's images.
    reconstructions : dict of path
        For each method, top to bottom, the pictures as HDF5.
    samples : dict of path
        For each of these methods, the scores of every sample.
    showing : Showing
    demo : bool
        Say on the figure that the data are simulated.
    png, pdf, tsv : path
        Outputs: the figure, and what it shows with the columns subject, nsd_id, rank, group,
        method, sample, samples, metric, value.
    ranked_by : str
        The method whose best samples rank the images.
    words : dict of str, optional
        Small print of methods, instead of the usual one.

    Raises
    ------
    InputError
        Files do not fit together, or the metric was not computed.
    """
    if ranked_by not in samples:
        found = f"scores of {', '.join(samples)}"
        remedy = "Rank images by one of the methods shown"
        raise InputError(Finding("ranked_by", f"scores of {ranked_by}", found, remedy))
    metric, *chosen_by = showing
    numbers = read_test_images(images)["nsd_id"].tolist()
    best = {method: best_samples(samples[method], metric, numbers) for method in reconstructions}
    ranking = best_samples(samples[ranked_by], metric, numbers)["value"]
    chosen = choose_images(ranking, *chosen_by)
    shown = {method: table.loc[chosen["nsd_id"]] for method, table in best.items()}
    columns = _make_columns(stimuli, chosen, reconstructions, shown)
    symbol = name_method(ranked_by)
    counts = {name_method(method): int(table["of"].max()) for method, table in shown.items()}
    notes = [
        describe_best(metric, counts),
        describe_choice(chosen, len(numbers), f"the best sample of {symbol}"),
        *([DEMO_NOTE] if demo else []),
    ]
    rows = [(PRESENTED, "image")]
    for method in reconstructions:
        # The small print says on whom it was trained.
        small = (words or {}).get(method) or describe_method(method)
        rows.append((name_method(split_method(method)[0]), small))
    with journal_style():
        figure = draw_pictures(
            title=f"{subject} – {DEMO}" if demo else subject,
            notes=notes,
            rows=rows,
            blocks=split_sections(chosen, columns, len(numbers)),
        )
        save_figure((png, pdf), figure)
    logger.info("%s: images %s", subject, chosen["nsd_id"].tolist())
    labelled = {(subject, method): table for method, table in shown.items()}
    save_table(tsv, tabulate_shown(chosen, labelled, metric))


def _make_columns(stimuli, chosen, reconstructions, shown):
    """One column per image: presented, then each method's best sample."""
    numbers = chosen["nsd_id"].tolist()
    seen = list(read_images(stimuli, numbers))
    pictures = {
        method: read_pictures(path, zip(numbers, shown[method]["sample"], strict=True))
        for method, path in reconstructions.items()
    }
    columns = []
    for index, (number, rank) in enumerate(zip(numbers, chosen["rank"], strict=True)):
        cells = [Cell(seen[index], f"NSD {number}", framed=True)]
        for method, table in shown.items():
            cells.append(Cell(pictures[method][index], format_score(table["value"].iloc[index])))
        columns.append(Column(f"rank {rank}", cells))
    return columns
