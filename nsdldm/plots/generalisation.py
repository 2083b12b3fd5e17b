"""Figures 11 to 13, not in the paper: what holds on which images, and what it owes to them."""

from __future__ import annotations

import logging
from pathlib import Path

from nsdldm.plots.generalisation_bins import bin_scores, choose_edges, read_scores
from nsdldm.plots.generalisation_bottleneck import choose_curve, draw_fig12
from nsdldm.plots.generalisation_cases import choose_numbers, draw_fig11
from nsdldm.plots.generalisation_rows import read_generalisation
from nsdldm.plots.generalisation_similarity import draw_fig13
from nsdldm.plots.style import journal_style, save_figure
from nsdldm.support.errors import Finding, InputError
from nsdldm.support.files import save_table

logger = logging.getLogger(__name__)


def plot_fig11(
    *, table: Path | str, demo: bool, png: Path | str, pdf: Path | str, tsv: Path | str
) -> None:
    """Draw the scores of every case: divisions of the images, other test sets and little data.

    Parameters
    ----------
    table : path
        As `nsdldm.evaluation.generalisation_table.tabulate_generalisation` writes it.
    demo : bool
        Say on the figure that the data are simulated.
    png, pdf, tsv : path
        Outputs: the figure, and the numbers that it shows with the columns of the table.

    Raises
    ------
    InputError
        The table lacks a column, or holds nothing that was decoded.
    """
    numbers = choose_numbers(read_generalisation(table))
    logger.info("%d values of %d cases", len(numbers), numbers["case"].nunique())
    with journal_style():
        save_figure((png, pdf), draw_fig11(numbers, demo))
    save_table(tsv, numbers)


def plot_fig12(
    *, table: Path | str, demo: bool, png: Path | str, pdf: Path | str, tsv: Path | str
) -> None:
    """Draw scores by the number of dimensions that decoders pass on.

    Parameters
    ----------
    table, demo, png, pdf
        As `plot_fig11`.
    tsv : path
        Output: the numbers shown, with the columns `line` and `dimensions` beside the table's.

    Raises
    ------
    InputError
        The table lacks a column, or has no case with a bottleneck.
    """
    numbers = choose_curve(read_generalisation(table))
    if not numbers["dimensions"].notna().any():
        remedy = "Restrict decoders to a few dimensions, and make the table again"
        raise InputError(Finding(str(table), "cases such as rank-10", "none", remedy))
    logger.info("%d values", len(numbers))
    with journal_style():
        save_figure((png, pdf), draw_fig12(numbers, demo))
    save_table(tsv, numbers)


def plot_fig13(
    *,
    scores: dict[tuple[str, str], Path | str],
    demo: bool,
    png: Path | str,
    pdf: Path | str,
    tsv: Path | str,
) -> None:
    """Draw scores of single images by their similarity to the nearest training image.

    Parameters
    ----------
    scores : dict of path
        Keys (subject, case), the case that others are compared with first: as
        `nsdldm.evaluation.generalisation.score_case` writes them.
    demo : bool
        Say on the figure that the data are simulated.
    png, pdf, tsv : path
        Outputs: the figure, and its numbers with the columns what, case, score, similarity_low,
        similarity_high, similarity (mean of the bin), n_images, value, low and high.

    Raises
    ------
    InputError
        A table lacks a column, or the similarity of its images.
    """
    table = read_scores(scores)
    edges = choose_edges(table.drop_duplicates(["subject", "case", "nsd_id"])["similarity"])
    numbers = bin_scores(table, edges)
    logger.info("%d bins, %d values", len(edges) - 1, len(numbers))
    with journal_style():
        save_figure((png, pdf), draw_fig13(table, numbers, demo))
    save_table(tsv, numbers)
