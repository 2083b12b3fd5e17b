"""One self-contained page with interactive maps."""

from __future__ import annotations

import warnings
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from nilearn.plotting import view_surf

from nsdldm.plots.cortex import sulcal_grey
from nsdldm.plots.style import ACCURACY
from nsdldm.support.files import replacing

if TYPE_CHECKING:
    from matplotlib.colors import Colormap

    from nsdldm.plots.cortex import Hemisphere

# Keeps a page below 20 MB for the native surfaces of the release.
SPACING_MM = 2.0
BETWEEN_MM = 12.0
STYLE = """
body { font: 15px/1.4 sans-serif; color: #1a1a1a; margin: 1.5em auto; max-width: 60em; }
h1 { font-size: 1.3em; } h2 { font-size: 1.1em; margin: 1.4em 0 0.3em; }
iframe { border: 1px solid #ddd; width: 100%; height: 34em; }
"""


def write_page(
    path: Path | str,
    *,
    title: str,
    note: str,
    hemispheres: dict[str, Hemisphere],
    maps: dict[str, dict[str, np.ndarray]],
    limit: float,
    shades: str | Colormap = ACCURACY,
) -> None:
    """Write the maps on both inflated hemispheres as one HTML page that needs no network.

    Parameters
    ----------
    path : str or Path
    title, note : str
        Heading and the line below it.
    hemispheres : dict of Hemisphere
        lh and rh.
    maps : dict of dict of float array of shape (n_vertices,)
        For each title, for lh and rh; NaN where nothing is shown.
    limit : float
        Upper end of the colour scale, which starts at 0.
    shades : str or matplotlib Colormap
    """
    coords, faces, chosen = join_hemispheres(hemispheres)
    grey = np.concatenate([sulcal_grey(each.sulc)[chosen[h]] for h, each in hemispheres.items()])
    views = {}
    for name, values in maps.items():
        shown = np.concatenate([values[hemi][chosen[hemi]] for hemi in hemispheres])
        views[name] = _view(coords, faces, shown, grey, limit, shades)
    write_views(path, title, f"<p>{escape(note)}</p>", views)


def write_views(path: Path | str, title: str, introduction: str, views: dict[str, str]) -> None:
    """Combine pages of single maps into one page.

    Parameters
    ----------
    path : str or Path
    title : str
    introduction : str
        HTML below the title.
    views : dict of str
        For the title of each map, its HTML page.
    """
    parts = [
        f'<h2>{escape(name)}</h2>\n<iframe title="{escape(name)}" srcdoc="{escape(page)}"></iframe>'
        for name, page in views.items()
    ]
    head = f'<meta charset="utf-8"><title>{escape(title)}</title><style>{STYLE}</style>'
    body = f"<h1>{escape(title)}</h1>{introduction}\n" + "\n".join(parts)
    with replacing(path) as part:
        part.write_text(
            f'<!DOCTYPE html>\n<html lang="en"><head>{head}</head>\n<body>{body}</body></html>\n',
            encoding="utf-8",
        )


def join_hemispheres(
    hemispheres: dict[str, Hemisphere],
) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]:
    """Put both inflated hemispheres side by side as one mesh, thinned to `SPACING_MM`.

    Parameters
    ----------
    hemispheres : dict of Hemisphere
        lh and rh.

    Returns
    -------
    coords : float array of shape (n, 3)
    faces : int array of shape (m, 3)
    chosen : dict of int array of shape (n_chosen,)
        For each hemisphere the vertices kept, in the order of `coords`.
    """
    coords, faces, chosen = [], [], {}
    for hemi, hemisphere in hemispheres.items():
        chosen[hemi], kept = thin_mesh(hemisphere.inflated, hemisphere.faces, SPACING_MM)
        faces.append(kept + sum(map(len, coords)))
        points = hemisphere.inflated[chosen[hemi]].astype(np.float64)
        # Native inflated surfaces are all centred at 0.
        inner = points[:, 0].max() if hemi == "lh" else points[:, 0].min()
        points[:, 0] += (-0.5 if hemi == "lh" else 0.5) * BETWEEN_MM - inner
        coords.append(points)
    return np.concatenate(coords), np.concatenate(faces), chosen


def thin_mesh(
    coords: np.ndarray, faces: np.ndarray, spacing: float
) -> tuple[np.ndarray, np.ndarray]:
    """Keep one vertex per cube of a grid, and the triangles that remain.

    Parameters
    ----------
    coords : float array of shape (n_vertices, 3)
        A smooth surface.
    faces : int array of shape (n_faces, 3)
    spacing : float
        Edge of the cubes.

    Returns
    -------
    kept : int array of shape (n,)
    faces : int array of shape (m, 3)
        Positions in `kept`.
    """
    cubes = np.floor((coords - coords.min(axis=0)) / spacing).astype(np.int64)
    _, kept, cube = np.unique(cubes, axis=0, return_index=True, return_inverse=True)
    corners = cube.reshape(-1)[faces]
    a, b, c = corners.T
    corners = corners[(a != b) & (b != c) & (c != a)]
    # Several triangles can become the same one. Its orientation must stay, so only the start is
    # aligned.
    start = corners.argmin(axis=1)[:, None]
    turned = np.take_along_axis(corners, (start + np.arange(3)) % 3, axis=1)
    return kept, np.unique(turned, axis=0)


def _view(coords, faces, values, grey, limit, shades):
    """Page of one map."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        view = view_surf(
            (coords, faces),
            values,
            bg_map=1 - grey,  # nilearn draws high values dark
            cmap=shades,
            vmin=0,
            vmax=limit,
            symmetric_cmap=False,
            colorbar_fontsize=14,
            view="back",
        )
    return view.get_standalone()
