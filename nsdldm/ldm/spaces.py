"""Feature spaces along the reverse process: names, sizes, and files filled part by part.

Light imports: what only names or joins spaces needs no networks.
"""

import json
import logging
import shutil
from pathlib import Path
from typing import NamedTuple

import numpy as np

from nsdldm.errors import Finding, InputError, reading
from nsdldm.files import create_array, load_array, load_table, replacing
from nsdldm.ldm.chunks import LEDGER, chunk_rows, record_done

logger = logging.getLogger(__name__)

LATENTS = ("x_t", "x0")
# Rows copied at once: 15 MB of Stable Diffusion's c.
ROWS = 64


class Space(NamedTuple):
    """Where along the reverse process the numbers of a feature space are taken.

    Parameters
    ----------
    strength : float
        Noise level, as the share of the chain that is run.
    step : int
        Number of steps done when a latent is taken; activations are those of the last of them.
    source : str
        ``x_t`` (the latent), ``x0`` (the predicted clean latent) or the path of a U-Net module.
    """

    strength: float
    step: int
    source: str


def count_steps(steps, share):
    """Steps in a share of a chain: rounded down as `nsdldm.ldm.trajectories.plan_steps`, >= 1."""
    # 0.29 x 100 is 28.999999999999996.
    return max(int(round(steps * share, 6)), 1)


def plan_spaces(*, steps, strengths, strength, step_shares, latent, blocks):
    """Name the feature spaces that one pass an image and noise level yields.

    The paper draws noise levels from low to high and early, middle and late steps without saying
    which they are: all of them are settings here.

    Parameters
    ----------
    steps : int
        Steps of the whole chain.
    strengths : list of float
        Noise levels of which the latent at the end is kept.
    strength : float
        The noise level of which steps are kept.
    step_shares : list of float
        Shares of that level's steps after which its latent is kept.
    latent : {"x_t", "x0"}
        Keep the latent itself at these steps, or the clean one that the U-Net predicts there.
    blocks : dict of str to str
        Name and module path in the U-Net of every block whose activations are kept.

    Returns
    -------
    dict of str to Space
        ``zc-n{percent}`` at the end of each level, ``zc-s{percent}`` and
        ``unet-{block}-s{percent}`` at each step.

    Raises
    ------
    InputError
        Shares outside (0, 1], of no whole percent, or that are the same number of steps.
    """
    if latent not in LATENTS:
        expected, remedy = "one of " + ", ".join(LATENTS), "Correct it"
        raise InputError(Finding("trajectories.latent", expected, repr(latent), remedy))
    ends = _percents("trajectories.noise_levels", steps, strengths)
    n_run = count_steps(steps, strength)
    shares = _percents("trajectories.step_shares", n_run, step_shares)
    spaces = {}
    for level, percent in zip(strengths, ends, strict=True):
        spaces[f"zc-n{percent:03d}"] = Space(level, count_steps(steps, level), "x_t")
    sources = {"zc": latent} | {f"unet-{name}": path for name, path in blocks.items()}
    for name, source in sources.items():
        for share, percent in zip(step_shares, shares, strict=True):
            step = count_steps(n_run, share)
            spaces[f"{name}-s{percent:03d}"] = Space(strength, step, source)
    return spaces


def _percents(where, steps, shares):
    """Shares as whole percents; no two of them may be the same number of steps."""
    for share in shares:
        if not (0 < share <= 1 and abs(100 * share - round(100 * share)) < 1e-6):
            expected, remedy = "whole percents above 0 and at most 1", "Correct it"
            raise InputError(Finding(where, expected, f"{share}", remedy))
    counts = [count_steps(steps, share) for share in shares]
    if len(set(counts)) < len(counts):
        expected, found = f"a different number of the {steps} steps each", f"{shares} = {counts}"
        raise InputError(Finding(where, expected, found, "Leave out what is there twice"))
    return [round(100 * share) for share in shares]


def plan_bytes(n_images, shapes):
    """Size of the feature spaces on disk, without the 128 bytes of a file's header.

    Parameters
    ----------
    n_images : int
    shapes : dict of str to tuple of int
        Shape of one image's numbers in each space.

    Returns
    -------
    dict of str to int
        Bytes of each space as float32.
    """
    return {name: 4 * n_images * int(np.prod(shape)) for name, shape in shapes.items()}


def read_rows(path, rows):
    """Copy rows of a ``.npy`` file as float32.

    The file is mapped anew every time: pages of a map that stays open pile up in memory.
    """
    return np.array(load_array(path)[rows], np.float32)


def write_rows(path, rows, values):
    """Overwrite rows of a ``.npy`` file, which is mapped anew as in `read_rows`."""
    array = np.load(path, mmap_mode="r+", allow_pickle=False)
    array[rows] = values
    array.flush()


def row_blocks(n, size=ROWS):
    """Consecutive slices of at most `size` of n rows."""
    return [slice(start, min(start + size, n)) for start in range(0, n, size)]


def open_parts(folder, shapes, key):
    """Open the arrays that an interrupted run left, or begin anew.

    `nsdldm.ldm.chunks.record_done` notes how far they are filled.

    Parameters
    ----------
    folder : str or Path
        Made if missing; holds nothing else.
    shapes : dict of str to tuple of int
        Whole shape of every array, the images first.
    key : str
        Identifies settings and inputs. Work under another key is discarded.

    Returns
    -------
    files : dict of str to Path
        float32 arrays.
    done : int
        Number of images that are there already.
    """
    folder = Path(folder)
    files = {name: folder / f"{name}.npy" for name in shapes}
    done = _read_done(folder, files, shapes, key)
    if done is not None:
        logger.info("%s: going on after %d images", folder, done)
        return files, done
    remove_parts(folder)
    for name, path in files.items():
        with create_array(path, shapes[name], np.float32):
            pass
    record_done(folder, key, 0)
    return files, 0


def _read_done(folder, files, shapes, key):
    """How many images an interrupted run left, or None if that is nothing of use."""
    try:
        ledger = json.loads((folder / LEDGER).read_text())
        fits = ledger["key"] == key and all(
            load_array(path).shape == tuple(shapes[name]) for name, path in files.items()
        )
        done = int(ledger["done"])
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        logger.warning("%s: discarded, since it cannot be read (%s)", folder, error)
        return None
    if not fits:
        logger.info("%s: discarded, since it belongs to other settings or inputs", folder)
        return None
    return done


def remove_parts(folder):
    """Remove what `open_parts` made, and the folder if that was all it held."""
    folder = Path(folder)
    # The ledger first: arrays without one are never taken up.
    for path in (folder / LEDGER, *folder.glob("*.npy"), *folder.glob(".part-*")):
        path.unlink(missing_ok=True)
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()


def finish_parts(folder, files, outputs):
    """Give complete arrays their final names and remove the folder of the work in progress.

    Parameters
    ----------
    folder : str or Path
    files : dict of str to Path
        As `open_parts` returns them.
    outputs : dict of str to str or Path
    """
    for name, path in files.items():
        with replacing(outputs[name]) as part:
            shutil.move(path, part)
    remove_parts(folder)


def gather_features(*, chunks, images, output):
    """Join the chunks of one feature space, a few rows at a time.

    Parameters
    ----------
    chunks : list of str or Path
        Files of `nsdldm.ldm.activations.collect_trajectories`, in the order of their numbers.
    images : str or Path
        Table of images.
    output : str or Path
        float32 array with a row an image of the table.

    Raises
    ------
    InputError
        A chunk that cannot be read, has not the rows of its place, or another shape or type than
        the first.
    """
    n = len(load_table(images))
    shape = None
    for number, path in enumerate(chunks):
        with reading(path, "a chunk of features as .npy"):
            array = load_array(path)
        rows = chunk_rows(n, number, len(chunks))
        shape = shape or array.shape[1:]
        expected = (rows.stop - rows.start, *shape)
        if array.shape != expected or array.dtype != np.float32:
            expected = f"float32 of shape {expected}, as chunk {number} of {len(chunks)} has"
            remedy = "Give all chunks of one space in order; make again what is out of date"
            found = f"{array.dtype} of shape {array.shape}"
            raise InputError(Finding(str(path), expected, found, remedy))
    header = {"descr": "<f4", "fortran_order": False, "shape": (n, *shape)}
    with replacing(output) as part, part.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        for path in chunks:
            for rows in row_blocks(len(load_array(path))):
                file.write(read_rows(path, rows).tobytes())
    logger.info("%d chunks, shape %s", len(chunks), (n, *shape))
