"""Measure how long a session's betas take to read through a mask, and how much memory.

Writes sessions of the release's size and storage (random numbers) into a scratch folder, about
1.1 GB each, and reads them in processes of their own with the files out of the page cache:

    PYTHONPATH=. python benchmarks/masking.py --scratch /tmp/masking

Compared with reading a whole session into memory and masking it there. Smaller grids by option.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

import h5py
import numpy as np
from scipy.ndimage import gaussian_filter

from nsdldm.files import load_mask, save_volume
from nsdldm.nsd.betas import extract_betas
from nsdldm.nsd.layout import TRIALS_PER_SESSION

SUBJ01 = (81, 104, 83)


def make_masks(grid, n_region, n_ribbon, seed):
    """Masks shaped like the cortical ribbon (a folded shell) and like visual cortex at its back.

    Parameters
    ----------
    grid : tuple of int
        (X, Y, Z); y runs from posterior to anterior.
    n_region, n_ribbon : int
        Voxels of the region and of the ribbon that holds it.
    seed : int

    Returns
    -------
    dict of str to bool array of shape `grid`
    """
    rng = np.random.default_rng(seed)
    centre = (np.array(grid) - 1) / 2
    offsets = np.indices(grid) - centre[:, None, None, None]
    radius = np.sqrt(sum((offset / size) ** 2 for offset, size in zip(offsets, grid, strict=True)))
    folds = gaussian_filter(rng.normal(size=grid), 3)
    depth = np.abs(radius - 0.38 + 0.08 * folds / folds.std())
    ribbon = np.zeros(grid, bool)
    ribbon.ravel()[np.argsort(depth, axis=None, kind="stable")[:n_ribbon]] = True
    pole = np.array([0, -centre[1], -centre[2] / 3])
    distance = np.linalg.norm(offsets - pole[:, None, None, None], axis=0)
    distance[~ribbon] = np.inf
    region = np.zeros(grid, bool)
    region.ravel()[np.argsort(distance, axis=None, kind="stable")[:n_region]] = True
    return {"ribbon": ribbon, "region": region}


def write_session(path, grid, seed):
    """Write random betas the way the release stores them: a chunk a voxel, no compression."""
    rng = np.random.default_rng(seed)
    shape = (TRIALS_PER_SESSION, *grid[::-1])
    with h5py.File(path, "w", libver="earliest") as file:
        betas = file.create_dataset("betas", shape, "<i2", chunks=(TRIALS_PER_SESSION, 1, 1, 1))
        for z in range(grid[2]):
            betas[:, z] = rng.integers(-900, 900, (TRIALS_PER_SESSION, *grid[1::-1]), "i2")


def prepare(options):
    """Write what is not there yet."""
    options.scratch.mkdir(parents=True, exist_ok=True)
    masks = make_masks(options.grid, options.region, options.ribbon, options.seed)
    for name, mask in masks.items():
        save_volume(options.scratch / f"{name}.nii.gz", mask, np.eye(4))
    for session in range(options.sessions):
        path = session_path(options.scratch, session)
        if not path.exists():
            write_session(path, options.grid, options.seed + session)


def session_path(scratch, session):
    """The file of a session, counted from 0."""
    return scratch / f"betas_session{session + 1:02d}.hdf5"


def read_naively(sessions, mask, output):
    """Read each session whole, then mask."""
    mask = load_mask(mask)
    parts = []
    for path in sessions:
        with h5py.File(path) as file:
            betas = file["betas"][:]
        values = betas.transpose(0, 3, 2, 1)[:, mask].astype(np.float32) / 300
        values[:, ~values.any(axis=0)] = np.nan
        parts.append(values)
    np.save(output, np.concatenate(parts))


def run_case(scratch, way, mask, n_sessions):
    """Run one case in this process; return its seconds and its peak memory in bytes."""
    sessions = [session_path(scratch, session) for session in range(n_sessions)]
    path, output = scratch / f"{mask}.nii.gz", scratch / f"{way}-{mask}.npy"
    for session in sessions:
        forget(session)
    start = time.perf_counter()
    if way == "plane by plane":
        partial = scratch / "partial"
        extract_betas(
            sessions=sessions, masks={mask: path}, outputs={mask: output}, partial=partial
        )
    elif way == "whole file":
        read_naively(sessions, path, output)
    seconds = time.perf_counter() - start
    unit = 1 if sys.platform == "darwin" else 1024
    return seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def forget(path):
    """Drop a file from the page cache, where the system lets us."""
    if hasattr(os, "posix_fadvise"):
        with open(path, "rb") as stream:
            os.fsync(stream.fileno())
            os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def spawn(options, stage, *case):
    """Run a stage of this script in a process of its own; return what it printed."""
    command = [sys.executable, __file__, *sys.argv[1:], "--stage", json.dumps([stage, *case])]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def compare(options):
    """Whether both ways wrote the same numbers for the region."""
    ways = ("plane by plane", "whole file")
    first, second = (np.load(options.scratch / f"{way}-region.npy", mmap_mode="r") for way in ways)
    return np.array_equal(first[:TRIALS_PER_SESSION], second, equal_nan=True)


def parse_arguments():
    """Options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--scratch", type=Path, required=True, help="folder for files of 1.1 GB")
    parser.add_argument("--grid", type=int, nargs=3, default=SUBJ01, metavar=("X", "Y", "Z"))
    parser.add_argument("--sessions", type=int, default=3, help="for the flat-memory row")
    parser.add_argument("--region", type=int, default=15_000, help="voxels like nsdgeneral")
    parser.add_argument("--ribbon", type=int, default=107_000, help="voxels of the ribbon")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--stage", type=json.loads, help=argparse.SUPPRESS)
    return parser.parse_args()


def main():
    """Write the files, run the cases one by one and print a table."""
    options = parse_arguments()
    if options.stage:
        stage, *case = options.stage
        result = prepare(options) if stage == "prepare" else run_case(options.scratch, *case)
        print(json.dumps(result))
        return
    # The files too are made in another process, whose memory this one's children would inherit.
    spawn(options, "prepare")
    cases = [
        ("nothing", "region", 1),
        ("plane by plane", "region", 1),
        ("plane by plane", "ribbon", 1),
        ("plane by plane", "ribbon", options.sessions),
        ("whole file", "region", 1),
        ("whole file", "ribbon", 1),
    ]
    print(f"{'read':16}{'voxels':>8}{'sessions':>10}{'seconds':>10}{'peak GB':>10}")
    for way, mask, n_sessions in cases:
        seconds, peak = json.loads(spawn(options, "case", way, mask, n_sessions))
        n_voxels = getattr(options, mask)
        print(f"{way:16}{n_voxels:8}{n_sessions:10}{seconds:10.1f}{peak / 1e9:10.2f}", flush=True)
    same = "the same" if compare(options) else "DIFFERENT"
    print(f"Both ways wrote {same} numbers.")


if __name__ == "__main__":
    main()
