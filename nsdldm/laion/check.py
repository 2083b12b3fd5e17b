"""Check one subject's part of the release before anything long starts."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from nsdldm.laion.betas import check_session
from nsdldm.laion.captions import choose_captions
from nsdldm.laion.stimuli import ENCODED, check_encoded
from nsdldm.laion.trials import RELEASED, identify_images, read_metadata, read_trials
from nsdldm.nsd.betas import open_nifti
from nsdldm.nsd.check import check_vertices
from nsdldm.nsd.grids import compare_grids, find_grid
from nsdldm.nsd.hdf5 import open_dataset
from nsdldm.nsd.layout import HEMISPHERES
from nsdldm.nsd.rois import read_volume
from nsdldm.support.errors import Finding, InputError
from nsdldm.support.files import save_table

logger = logging.getLogger(__name__)


def check_release(
    *,
    subject: str,
    metadata: Path | str,
    captions: Path | str,
    stimuli: Path | str,
    tables: Sequence[Path | str],
    betas: Sequence[Path | str],
    reference: Path | str,
    masks: Sequence[Path | str],
    surfaces: Sequence[Path | str],
    report: Path | str,
    storage: dict | None = None,
) -> None:
    """Check that a subject's files fit together; of pictures and betas only headers are read.

    Parameters
    ----------
    subject : str
        Such as sub-01.
    metadata, captions, stimuli : path
        Of all images.
    tables, betas : sequence of path
        Of each session.
    reference : str or Path
        The noise ceiling, on the grid of the betas.
    masks : sequence of path
        Masks of regions.
    surfaces : sequence of path
        FreeSurfer's files of both hemispheres, such as ``lh.white``.
    report : str or Path
        Output, a table with the columns path, what and value.
    storage : dict, optional
        How to read a bucket, as `nsdldm.nsd.remote.connect` takes it.

    Raises
    ------
    InputError
        With all findings: missing or damaged files, betas that do not fit their table of trials,
        images that are unknown or another subject's, volumes on different grids, surfaces whose
        vertices do not match, images without picture or caption.
    """
    rows, findings = [], []

    def catch(function, *arguments):
        try:
            return function(*arguments)
        except InputError as error:
            findings.extend(error.findings)
            return None

    known = catch(read_metadata, metadata)
    volume = catch(read_volume, reference)
    grid = volume[1] if volume else None
    shown = set()
    for table, path in zip(tables, betas, strict=True):
        names = catch(read_trials, table)
        if names is not None and grid is not None:
            catch(_check_session, path, grid, len(names), storage)
            rows.append((table, "trials", len(names)))
        if names is not None and known is not None:
            shown |= {*names}
            catch(identify_images, table, names, known, subject)
    for path in masks:
        mask = catch(read_volume, path)
        if mask and grid and (misfit := compare_grids(mask[1], grid)):
            findings.append(misfit)
    for hemi in HEMISPHERES:
        own = {Path(path).name: path for path in surfaces}
        own = {name[3:]: path for name, path in own.items() if name.startswith(hemi)}
        check_vertices(rows, findings, [], own)
    if known is not None:
        rows.append((metadata, "images", len(known)))
        catch(_check_pictures, stimuli, len(known), storage)
        catch(choose_captions, captions, sorted(shown & {*known["name"]}))
    if findings:
        raise InputError(*findings)
    save_table(report, pd.DataFrame(rows, columns=["path", "what", "value"]))
    logger.info("%s: %d sessions fit their tables", subject, len(betas))


def _check_session(path, grid, n_trials, storage):
    with open_nifti(path, storage) as image:
        if misfit := compare_grids(find_grid(path, image), grid):
            raise InputError(misfit)
        check_session(path, image.shape, image.get_data_dtype(), grid.shape, n_trials)


def _check_pictures(stimuli, n_images, storage):
    with open_dataset(stimuli, ENCODED, storage) as encoded:
        check_encoded(stimuli, encoded)
        if len(encoded) != n_images:
            expected = f"a picture for each of the {n_images} rows of the metadata"
            found = f"{len(encoded)} pictures"
            raise InputError(Finding(str(stimuli), expected, found, RELEASED))
