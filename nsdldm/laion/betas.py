"""Single-trial responses (betas) of LAION-fMRI: a compressed NIfTI file for each session.

Values are float32, percent signal change that ridge regression has shrunk voxel by voxel, so they
cannot be compared between voxels before they are z-scored. A voxel without data is NaN or 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from nsdldm.laion.trials import RELEASED, read_trials
from nsdldm.nsd.betas import extract_betas, open_nifti
from nsdldm.nsd.grids import compare_grids, find_grid
from nsdldm.support.errors import Finding, InputError, reading

if TYPE_CHECKING:
    from nsdldm.nsd.grids import Grid


def check_session(
    path: Path | str,
    shape: tuple[int, ...],
    dtype: np.dtype,
    volume: tuple[int, ...],
    n_trials: int,
) -> None:
    """Compare a session's betas with its table of trials and the regions.

    Parameters
    ----------
    path : str or Path
    shape : tuple of int
        (X, Y, Z, trials).
    dtype : dtype
    volume : tuple of int
        (X, Y, Z) of the regions.
    n_trials : int

    Raises
    ------
    InputError
    """
    expected = (*volume, n_trials)
    if tuple(shape) != expected or dtype.newbyteorder("=") != np.float32:
        wanted = f"float32 betas of shape (X, Y, Z, trials) = {expected}"
        raise InputError(Finding(str(path), wanted, f"{dtype} of {tuple(shape)}", RELEASED))


def read_session(
    path: Path | str, mask: np.ndarray, grid: Grid | None, n_trials: int
) -> tuple[np.ndarray, int]:
    """Read the betas of one session inside a mask.

    The file is inflated once, volume after volume: looking up single voxels would inflate it from
    the start each time.

    Parameters
    ----------
    path : str or Path
    mask : bool array of shape (X, Y, Z)
    grid : nsdldm.nsd.grids.Grid, optional
        The grid of the mask, to be compared with that of the file.
    n_trials : int
        Number of trials that the session must have.

    Returns
    -------
    values : float32 array of shape (n_trials, n_voxels)
        As stored, voxels in C-order of the mask; NaN in all trials of a voxel that lacks a value in
        any, or is 0 in all.
    n_saturated : int
        0, since floats have no limit.

    Raises
    ------
    InputError
        The file is missing, truncated, on a different grid from the mask, or of another dtype.
    """
    values = np.empty((n_trials, np.count_nonzero(mask)), np.float32)
    with open_nifti(path) as image:
        if grid is not None and (finding := compare_grids(find_grid(path, image), grid)):
            raise InputError(finding)
        check_session(path, image.shape, image.get_data_dtype(), mask.shape, n_trials)
        for trial in range(n_trials):
            with reading(path, "betas"):
                values[trial] = np.asanyarray(image.dataobj[..., trial])[mask]
    values[:, ~np.isfinite(values).all(axis=0) | ~values.any(axis=0)] = np.nan
    return values, 0


def extract_matrices(
    *,
    sessions: Sequence[Path | str],
    tables: Sequence[Path | str],
    masks: dict[str, Path | str],
    outputs: dict[str, Path | str],
    partial: Path | str,
    storage: dict | None = None,
) -> None:
    """Write the betas of each region over sessions, reading each session once.

    Parameters
    ----------
    sessions, tables : sequence of path
        The betas and the table of trials of each session, in the order of the trials table.
    masks, outputs, partial, storage
        As `nsdldm.nsd.betas.extract_betas` takes them; the matrices have its form.

    Raises
    ------
    InputError
        As `read_session`.
    """
    counts = [len(read_trials(path)) for path in tables]
    extract_betas(
        sessions=list(sessions),
        masks=masks,
        outputs=outputs,
        partial=partial,
        storage=storage,
        n_trials=counts,
        read=read_session,
    )
