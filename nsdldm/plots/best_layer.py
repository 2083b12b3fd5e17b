"""Which layer of a network predicts each voxel best, drawn like figure 9."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from nsdldm.plots.fig9 import draw_fig9, measure_best
from nsdldm.plots.pictures import DEMO
from nsdldm.plots.style import journal_style, save_figure
from nsdldm.support.files import save_table

if TYPE_CHECKING:
    from nsdldm.plots.cortex import Anatomy

NAMES = {"share": "network", "block": "layer"}


def plot_best_layer(
    *,
    subject: str,
    network: str,
    layers: list[str],
    table: Path | str,
    errors: Path | str,
    anatomy: Anatomy,
    repeats: int,
    seed: int,
    demo: bool,
    png: Path | str,
    pdf: Path | str,
    tsv: Path | str,
) -> None:
    """Draw the layer that predicts each voxel best.

    Parameters
    ----------
    subject, network : str
    layers : list of str
        Names in the order of the network, which defines their indices.
    table, errors : path
        As `nsdldm.encoding.blocks.choose_blocks` writes them.
    anatomy : nsdldm.plots.cortex.Anatomy
    repeats, seed : int
        Of the bootstrap over images.
    demo : bool
        Say on the figure that the data are simulated.
    png, pdf, tsv : path
        Outputs: the figure, and its numbers, as `nsdldm.plots.fig9.plot_fig9` writes them.

    Raises
    ------
    InputError
        The table lacks a column, or names a layer that does not exist.
    """
    given = {network: table}, {network: errors}, anatomy, repeats, seed
    drawn = measure_best(subject, layers, *given)
    title = f"{subject} – {DEMO}" if demo else subject
    with journal_style():
        figure = draw_fig9(title, layers, *drawn, {network: f"Layers of {network}"}, "layer")
        save_figure((png, pdf), figure)
    save_table(tsv, drawn.counts.rename(columns=NAMES))
