"""Time and memory of the steps that read a subject of the release's size, and of its decoders.

Writes what they read (random numbers under the release's formats: a session's betas are 1.1 GB)
into a scratch folder and runs each step in a process of its own, with the betas out of the page
cache:

    PYTHONPATH=. python benchmarks/full_size.py --scratch /tmp/nsdldm-full-size

cores is CPU time over time passed. Betas are compared with reading a whole session into memory and
masking it there. Of a decoder one fold of five is fitted with some penalties and targets; the rest
is extrapolated by the number of operations, as printed. The encoders have a script of their own.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
from scipy.io import savemat
from scipy.ndimage import gaussian_filter

from nsdldm.demo.behaviour import simulate_behaviour, write_responses
from nsdldm.demo.design import Design
from nsdldm.demo.formats import write_label_table, write_nifti
from nsdldm.demo.stimuli import describe_stimuli
from nsdldm.nsd.betas import extract_betas
from nsdldm.nsd.layout import N_IMAGES, TRIALS_PER_SESSION
from nsdldm.nsd.rois import make_masks
from nsdldm.nsd.trials import tabulate_trials
from nsdldm.responses import Responses, prepare_responses
from nsdldm.support.files import load_array, load_mask, save_array, save_table, save_volume

GRID = (81, 104, 83)  # subj01
SESSIONS = 40
# The published split of 37 sessions.
TRAIN_IMAGES, TRAIN_TRIALS, TEST_IMAGES, TEST_TRIALS = 8859, 24_980, 982, 2770
DECODERS = {"z": (5900, 4 * 40 * 40), "c": (7600, 77 * 768)}  # voxels of its region, targets
FOLDS, PENALTIES = 5, 7


def draw_masks(n_region, n_ribbon, seed):
    """Masks shaped like the cortical ribbon (a folded shell) and like visual cortex at its back.

    Parameters
    ----------
    n_region, n_ribbon : int
        Voxels of the region and of the ribbon that holds it.
    seed : int

    Returns
    -------
    dict of str to bool array of shape GRID
        y runs from posterior to anterior.
    """
    rng = np.random.default_rng(seed)
    centre = (np.array(GRID) - 1) / 2
    offsets = np.indices(GRID) - centre[:, None, None, None]
    radius = np.sqrt(sum((offset / size) ** 2 for offset, size in zip(offsets, GRID, strict=True)))
    folds = gaussian_filter(rng.normal(size=GRID), 3)
    depth = np.abs(radius - 0.38 + 0.08 * folds / folds.std())
    ribbon = np.zeros(GRID, bool)
    ribbon.ravel()[np.argsort(depth, axis=None, kind="stable")[:n_ribbon]] = True
    pole = np.array([0, -centre[1], -centre[2] / 3])
    distance = np.linalg.norm(offsets - pole[:, None, None, None], axis=0)
    distance[~ribbon] = np.inf
    region = np.zeros(GRID, bool)
    region.ravel()[np.argsort(distance, axis=None, kind="stable")[:n_region]] = True
    return {"ribbon": ribbon, "region": region}


def write_session(path, seed):
    """Write random betas the way the release stores them: a chunk per voxel, no compression."""
    rng = np.random.default_rng(seed)
    shape = (TRIALS_PER_SESSION, *GRID[::-1])
    with h5py.File(path, "w", libver="earliest") as file:
        betas = file.create_dataset("betas", shape, "<i2", chunks=(TRIALS_PER_SESSION, 1, 1, 1))
        for z in range(GRID[2]):
            betas[:, z] = rng.integers(-900, 900, (TRIALS_PER_SESSION, *GRID[1::-1]), "i2")


def write_tables(scratch, seed):
    """Write the behaviour of 40 sessions, the design and the table of 73,000 stimuli."""
    rng = np.random.default_rng(seed)
    images = rng.permutation(N_IMAGES) + 1
    shared, unique = np.sort(images[:1000]), images[1000:].reshape(8, 9000)
    order = rng.permutation(np.repeat(np.arange(1, 10_001), 3))
    plan = Design(order, np.hstack([np.tile(shared, (8, 1)), unique]), shared)
    variables = {name: np.atleast_2d(values) * 1.0 for name, values in plan._asdict().items()}
    savemat(scratch / "nsd_expdesign.mat", variables, do_compression=True)
    describe_stimuli(plan, seed).to_csv(scratch / "nsd_stim_info_merged.csv")
    shown = plan.subjectim[0, order - 1] - 1
    table = simulate_behaviour(subject="subj01", numbers=order, nsd_ids=shown, rng=rng)
    write_responses(scratch / "responses.tsv", table)


def prepare(options):
    """Write what is not there yet."""
    options.scratch.mkdir(parents=True, exist_ok=True)
    masks = draw_masks(options.region, options.ribbon, options.seed)
    for name, mask in masks.items():
        save_volume(options.scratch / f"{name}.nii.gz", mask, np.eye(4))
    atlas = np.where(masks["ribbon"], masks["region"] * 1.0, -1.0)
    write_nifti(options.scratch / "streams.nii.gz", atlas, 1.8)
    write_label_table(options.scratch / "streams.mgz.ctab", {"early": 1})
    write_tables(options.scratch, options.seed)
    for session in range(options.sessions):
        path = session_path(options.scratch, session)
        if not path.exists():
            write_session(path, options.seed + session)


def session_path(scratch, session):
    """The file of a session, counted from 0."""
    return scratch / f"betas_session{session + 1:02d}.hdf5"


def run_nothing(options):
    """Import everything."""


def run_trials(options):
    """Tabulate 30,000 trials."""
    tabulate_trials(
        responses=options.scratch / "responses.tsv",
        design=options.scratch / "nsd_expdesign.mat",
        stim_info=options.scratch / "nsd_stim_info_merged.csv",
        trials=options.scratch / "trials.tsv",
        images=options.scratch / "images.tsv",
        subject="subj01",
        sessions=list(range(1, SESSIONS + 1)),
    )


def run_masks(options):
    """Make the masks of the ribbon and of a region."""
    rois = {"cortex": ["streams:ribbon"], "early": ["streams:early"]}
    make_masks(
        atlases={"streams": options.scratch / "streams.nii.gz"},
        tables={"streams": options.scratch / "streams.mgz.ctab"},
        rois=rois,
        outputs={name: options.scratch / f"masks/{name}.nii.gz" for name in rois},
    )


def run_betas(options, mask, n_sessions):
    """Extract a mask's betas as the workflow does."""
    extract_betas(
        sessions=[session_path(options.scratch, session) for session in range(n_sessions)],
        masks={mask: options.scratch / f"{mask}.nii.gz"},
        outputs={mask: options.scratch / f"extracted-{mask}.npy"},
        partial=options.scratch / f"partial-{mask}",
    )


def run_whole(options, mask):
    """Read a session whole, then mask."""
    inside = load_mask(options.scratch / f"{mask}.nii.gz")
    with h5py.File(session_path(options.scratch, 0)) as file:
        betas = file["betas"][:]
    values = betas.transpose(0, 3, 2, 1)[:, inside].astype(np.float32) / 300
    values[:, ~values.any(axis=0)] = np.nan
    np.save(options.scratch / f"whole-{mask}.npy", values)


def make_responses(n_voxels, rng):
    """Random training and test responses of the published split, and images of the first."""
    nsd_ids = np.repeat(np.arange(TRAIN_IMAGES + TEST_IMAGES), 3)
    split = np.where(nsd_ids < TRAIN_IMAGES, "train", "test")
    trials = pd.DataFrame({"nsd_id": nsd_ids, "split": split}).sample(frac=1, random_state=0)
    parts = [("train", TRAIN_TRIALS), ("test", TEST_TRIALS)]
    trials = pd.concat([trials[trials["split"] == name].head(n) for name, n in parts])
    trials = trials.sample(frac=1, random_state=1).reset_index(drop=True)
    trials["session"] = 1 + np.arange(len(trials)) // TRIALS_PER_SESSION
    images = trials[["nsd_id", "split"]].drop_duplicates().sort_values("nsd_id")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        given = {"betas": folder / "betas.npy"}
        given |= {key: folder / f"{key}.tsv" for key in ("trials", "images")}
        save_table(given["trials"], trials)
        save_table(given["images"], images)
        save_array(given["betas"], rng.standard_normal((len(trials), n_voxels), np.float32))
        form = "zscored/trials"
        prepare_responses(**given, output=folder / "responses.h5", forms=[form])
        found = Responses(folder / "responses.h5", form)
        return found.read_train(), found.read_test(), found.train_ids


def run_decoder(options, name):
    """Fit one fold of five with some penalties and targets; return times and sizes."""
    # Here, since the other steps run without torch and its memory.
    from himalaya.backend import set_backend

    from nsdldm import ridge
    from nsdldm.decoding import decoders as decoding

    rng = np.random.default_rng(options.seed)
    n_voxels, n_targets = DECODERS[name][0], options.targets
    train, test, nsd_ids = make_responses(n_voxels, rng)
    fold = decoding.make_folds(decoding.PROTOCOLS["corrected"], nsd_ids, FOLDS, options.seed)[:1]
    Y = rng.standard_normal((len(train), n_targets), np.float32)
    backend, decomposing = set_backend("torch"), []
    decompose = backend.svd

    def timed(X, **settings):
        began = time.perf_counter()
        result = decompose(X, **settings)
        decomposing.append(time.perf_counter() - began)
        return result

    backend.svd = timed
    began = time.perf_counter()
    ridge.fit_decoder(train, Y, test, np.logspace(2, 6, options.penalties), fold, True, n_targets)
    total = time.perf_counter() - began
    sizes = len(train), len(test), n_voxels, n_targets, FOLDS, 1e9
    return {
        "svd": decomposing,
        "products": total - sum(decomposing),
        "peak": decoding.plan_targets(*sizes)[1],
    }


def count_operations(n_voxels, n_targets, n_folds, n_penalties):
    """Multiplications and additions of himalaya's matrix products, by its source (0.4.11).

    A fold and penalty: the matrix that maps targets to weights, its product with the held-out
    responses and with the targets; at the end weights of all samples, for one penalty at least.
    """
    n, fold = TRAIN_TRIALS, TRAIN_TRIALS // FOLDS
    fitted = n - fold
    each = 2 * (n_voxels**2 * fitted + fold * n_voxels * fitted + fold * fitted * n_targets)
    return n_folds * n_penalties * each + 2 * (n_voxels**2 * n + n_voxels * n * n_targets)


def extrapolate(options, name, result):
    """Say what all folds, penalties and targets of a decoder would take."""
    n_voxels, n_targets = DECODERS[name]
    fitted = count_operations(n_voxels, options.targets, 1, options.penalties)
    rate = fitted / result["products"]
    products = count_operations(n_voxels, n_targets, FOLDS, PENALTIES) / rate
    fold, last = result["svd"]
    hours = (FOLDS * fold + last + products) / 3600
    return (
        f"{name}: decompositions {fold:.0f} s a fold and {last:.0f} s at the end, products at "
        f"{rate / 1e9:.0f} GFLOP/s; {n_targets} targets, {FOLDS} folds and {PENALTIES} penalties "
        f"would take {hours:.1f} hours in one fit; predicted peak {result['peak'] / 1e9:.2f} GB"
    )


STEPS = {
    "nothing": run_nothing,
    "trials": run_trials,
    "masks": run_masks,
    "betas": run_betas,
    "whole": run_whole,
    "decoder": run_decoder,
    "prepare": prepare,
}


def forget(path):
    """Drop a file from the page cache, where the system lets us."""
    if path.exists() and hasattr(os, "posix_fadvise"):
        with open(path, "rb") as stream:
            os.fsync(stream.fileno())
            os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def run_here(options, step, *arguments):
    """Run a step in this process and print what it took, as JSON."""
    for session in range(options.sessions):
        forget(session_path(options.scratch, session))
    began, cpu = time.perf_counter(), time.process_time()
    result = STEPS[step](options, *arguments)
    seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
    unit = 1 if sys.platform == "darwin" else 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    print(json.dumps({"seconds": seconds, "cpu": cpu, "peak": peak, "result": result}))


def measure(options, step, *arguments):
    """Run a step in processes of its own; what the fastest of them took."""
    command = [sys.executable, __file__, *sys.argv[1:], "--step", json.dumps([step, *arguments])]
    times = options.times if step in ("trials", "masks", "betas") else 1
    runs = [
        json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
        for _ in range(times)
    ]
    return min(runs, key=lambda run: run["seconds"])


def compare(options):
    """Whether both ways wrote the same numbers for the region."""
    ways = ("extracted", "whole")
    first, second = (load_array(options.scratch / f"{way}-region.npy") for way in ways)
    return np.array_equal(first[:TRIALS_PER_SESSION], second, equal_nan=True)


def parse_arguments():
    """Options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--scratch", type=Path, required=True, help="folder for files of 1.1 GB")
    for name, default, what in (
        ("sessions", 3, "most sessions extracted"),
        ("region", 15_000, "voxels like nsdgeneral"),
        ("ribbon", 107_000, "voxels of the ribbon"),
        ("targets", 2000, "of a decoder"),
        ("penalties", 1, "of a decoder"),
        ("times", 3, "runs of the workflow's short steps, of which the fastest counts"),
        ("seed", 0, "of the random numbers"),
    ):
        parser.add_argument(f"--{name}", type=int, default=default, help=f"{what} ({default})")
    parser.add_argument("--decoders", nargs="*", choices=DECODERS, default=["z"], help="(z)")
    parser.add_argument("--step", type=json.loads, help="one step alone, as JSON (all)")
    return parser.parse_args()


def main():
    """Write the files, run the steps one by one and print a table."""
    options = parse_arguments()
    if options.step:
        run_here(options, *options.step)
        return
    # The files too are made in another process, whose memory this one's children would inherit.
    measure(options, "prepare")
    counts = [(mask, n) for mask in ("region", "ribbon") for n in range(1, options.sessions + 1)]
    cases = [("nothing",), ("trials",), ("masks",), *(("betas", *count) for count in counts)]
    cases += [("whole", "region"), ("whole", "ribbon")]
    cases += [("decoder", name) for name in options.decoders]
    print(f"{'step':24}{'seconds':>10}{'CPU s':>10}{'cores':>8}{'peak GB':>10}")
    for case in cases:
        took = measure(options, *case)
        numbers = took["seconds"], took["cpu"], took["cpu"] / max(took["seconds"], 1e-3)
        row = "{:24}{:10.1f}{:10.1f}{:8.1f}{:10.2f}"
        print(row.format(" ".join(map(str, case)), *numbers, took["peak"] / 1e9), flush=True)
        if case[0] == "decoder":
            print(extrapolate(options, case[1], took["result"]), flush=True)
        if case == ("whole", "region"):
            print(f"both ways wrote {'the same' if compare(options) else 'DIFFERENT'} numbers")


if __name__ == "__main__":
    main()
