"""Time and memory of the encoders, against their prediction and against scikit-learn.

    PYTHONPATH=. python benchmarks/encoding.py \\
        --train 9000 --test 1000 --features 6400 --voxels 20000

writes random images, features and betas into a scratch folder, predicts the memory, fits in a
process of its own and reads its peak from the system's accounting. A second comparison gives
himalaya and scikit-learn the same kernel and a subsample of the voxels, where scikit-learn loops
KernelRidge over folds and penalties to get a penalty per voxel. himalaya spends more on a kernel
and less on a voxel, so the ratio of times grows with --subsample. Ends with status 1 if the peak
exceeds 1.2 times its prediction.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.linalg import LinAlgWarning
from sklearn.kernel_ridge import KernelRidge

from nsdldm.encoding.fits import FitSettings, fit_encoders
from nsdldm.encoding.scores import score_encoders
from nsdldm.features.kernels import Kernels, compute_kernels
from nsdldm.responses import prepare_responses
from nsdldm.ridge import (
    fit_ridge,
    free_device_memory,
    group_folds,
    plan_batches,
    set_device,
)
from nsdldm.support.files import create_array, load_array, save_array, save_table, save_volume

TOLERANCE = 1.2
TRIALS_PER_SESSION = 750
FORM = "zscored/averages"


def parse_arguments():
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    for name, default, what in (
        ("train", 900, "training images"),
        ("test", 100, "test images"),
        ("repeats", 3, "trials of an image"),
        ("features", 640, "columns of the feature space"),
        ("voxels", 2000, "voxels"),
        ("subsample", 500, "voxels given to scikit-learn; 0 skips it"),
        ("alphas", 10, "penalties tried"),
        ("folds", 5, "cross-validation folds"),
    ):
        parser.add_argument(f"--{name}", type=int, default=default, help=f"{what} ({default})")
    parser.add_argument("--memory-gb", type=float, default=24, help="memory budget (24)")
    parser.add_argument("--device", default="cpu", help="auto, cpu (default) or cuda")
    parser.add_argument("--folder", type=Path, help="where to make the scratch folder")
    parser.add_argument("--stage", choices=STAGES, help=argparse.SUPPRESS)
    return parser.parse_args()


def write_tables(options, folder, rng):
    """Write trials and images; returns the image, as row, of each trial."""
    n_images = options.train + options.test
    split = np.where(rng.permutation(n_images) < options.test, "test", "train")
    save_table(folder / "images.tsv", pd.DataFrame({"nsd_id": np.arange(n_images), "split": split}))
    shown = rng.permutation(np.repeat(np.arange(n_images), options.repeats))
    session = 1 + np.arange(len(shown)) // TRIALS_PER_SESSION
    trials = pd.DataFrame({"session": session, "nsd_id": shown, "split": split[shown]})
    save_table(folder / "trials.tsv", trials)
    return shown


def write_data(options, folder):
    """Write features with a falling spectrum and betas that follow some of their directions."""
    rng = np.random.default_rng(0)
    shown = write_tables(options, folder, rng)
    n_images = options.train + options.test
    features = rng.standard_normal((n_images, options.features), np.float32)
    features /= np.sqrt(np.arange(1, options.features + 1, dtype=np.float32))
    save_array(folder / "features.npy", features)
    sources = features[:, :50] @ rng.standard_normal((50, options.voxels), np.float32)
    sources *= rng.uniform(0, 0.7, options.voxels).astype(np.float32)
    with create_array(folder / "betas.npy", (len(shown), options.voxels), np.float32) as betas:
        for start in range(0, len(shown), TRIALS_PER_SESSION):
            rows = slice(start, start + TRIALS_PER_SESSION)
            noise = rng.standard_normal((len(shown[rows]), options.voxels), np.float32)
            betas[rows] = sources[shown[rows]] + noise
    save_volume(folder / "mask.nii.gz", np.ones((options.voxels, 1, 1), bool), np.eye(4))


def penalties(options):
    """The penalties tried."""
    return np.logspace(-3, 6, options.alphas).tolist()


def run_kernel(options, folder):
    """Compute the kernel."""
    compute_kernels(
        features={"x": folder / "features.npy"},
        images=folder / "images.tsv",
        output=folder / "kernels.h5",
        max_components=6400,
        device=options.device,
    )


def run_responses(options, folder):
    """Prepare the responses of all voxels."""
    prepare_responses(
        betas=folder / "betas.npy",
        trials=folder / "trials.tsv",
        images=folder / "images.tsv",
        output=folder / "responses.h5",
        forms=[FORM],
    )


def run_fit(options, folder):
    """Fit all voxels."""
    settings = (penalties(options), [1], options.folds, options.memory_gb, 0, options.device)
    fit_encoders(
        spaces=["x"],
        kernels=[folder / "kernels.h5"],
        responses=folder / "responses.h5",
        form=FORM,
        images=folder / "images.tsv",
        predictions=folder / "predictions.h5",
        settings=FitSettings(*settings),
    )


def run_score(options, folder):
    """Score all voxels."""
    score_encoders(
        predictions=folder / "predictions.h5",
        responses=folder / "responses.h5",
        mask=folder / "mask.nii.gz",
        regions={"cortex": folder / "mask.nii.gz"},
        maps={"x": folder / "maps.nii.gz"},
        tables={"x": folder / "table.tsv"},
        sums=folder / "sums.npz",
        fdr=0.05,
    )


def load_subsample(options, folder):
    """Kernel, responses of the subsample in single trials' first showing, and folds."""
    images = pd.read_csv(folder / "images.tsv", sep="\t")
    trials = pd.read_csv(folder / "trials.tsv", sep="\t")
    train = np.flatnonzero(images["split"] == "train")
    first = trials.reset_index().groupby("nsd_id")["index"].first().to_numpy()
    responses = np.array(load_array(folder / "betas.npy")[first[train], : options.subsample])
    kernel = Kernels([folder / "kernels.h5"]).read("x")[np.ix_(train, train)]
    return kernel, responses, group_folds(train, options.folds, 0)


def run_himalaya(options, folder):
    """Fit the subsample with himalaya; saves the penalties chosen."""
    kernel, responses, folds = load_subsample(options, folder)
    set_device(options.device)
    batches = {"targets": options.subsample, "alphas": 1}
    chosen = fit_ridge(kernel, kernel[:1], responses, penalties(options), folds, batches)[1]
    save_array(folder / "himalaya.npy", chosen)


def run_sklearn(options, folder):
    """Fit the subsample with scikit-learn; saves the penalties chosen."""
    kernel, responses, folds = load_subsample(options, folder)
    grid = np.array(penalties(options))
    warnings.simplefilter("ignore", LinAlgWarning)  # the smallest penalty strains float32
    scores = np.zeros((len(grid), responses.shape[1]))
    for train, test in folds:
        mean = responses[train].mean(axis=0)
        total = np.square(responses[test] - responses[test].mean(axis=0)).sum(axis=0)
        for row, alpha in enumerate(grid):
            model = KernelRidge(alpha=alpha, kernel="precomputed")
            model.fit(kernel[np.ix_(train, train)], responses[train] - mean)
            predicted = model.predict(kernel[np.ix_(test, train)]) + mean
            scores[row] += 1 - np.square(responses[test] - predicted).sum(axis=0) / total
    chosen = grid[scores.argmax(axis=0)]
    for alpha in np.unique(chosen):
        voxels = chosen == alpha
        KernelRidge(alpha=alpha, kernel="precomputed").fit(kernel, responses[:, voxels])
    save_array(folder / "sklearn.npy", chosen)


STAGES = {
    "kernel": run_kernel,
    "responses": run_responses,
    "fit": run_fit,
    "score": run_score,
    "himalaya": run_himalaya,
    "sklearn": run_sklearn,
}


def measure(stage, folder):
    """Run a stage in a process of its own; returns its seconds after imports and peak bytes."""
    command = [sys.executable, __file__, *sys.argv[1:], "--stage", stage, "--folder", str(folder)]
    child = subprocess.Popen(command)
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        sys.exit(f"stage {stage} failed")
    seconds = float((folder / "seconds.txt").read_text())
    return seconds, usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def report(options, folder):
    """Measure all stages and print a table; returns peak over prediction of the fit."""
    set_device(options.device)
    sizes = (options.train, options.test, options.voxels, options.alphas, options.folds)
    predicted = plan_batches(*sizes, options.memory_gb, free_device_memory())["peak"]
    print(f"predicted peak of the fit: {predicted / 1e9:.2f} GB", flush=True)
    write_data(options, folder)
    stages = ["kernel", "responses", "fit", "score"]
    stages += ["himalaya", "sklearn"] if options.subsample else []
    measured = {}
    print(f"{'stage':10s} {'voxels':>7s} {'seconds':>8s} {'peak GB':>8s}")
    for stage in stages:
        measured[stage] = seconds, peak = measure(stage, folder)
        alone = {"himalaya": options.subsample, "sklearn": options.subsample, "kernel": 0}
        voxels = alone.get(stage, options.voxels)
        print(f"{stage:10s} {voxels:7d} {seconds:8.1f} {peak / 1e9:8.2f}", flush=True)
    ratio = measured["fit"][1] / predicted
    print(f"measured / predicted peak of the fit: {ratio:.2f} (at most {TOLERANCE})")
    if options.subsample:
        same = load_array(folder / "himalaya.npy") == load_array(folder / "sklearn.npy")
        times = measured["sklearn"][0] / measured["himalaya"][0]
        print(f"scikit-learn / himalaya on {options.subsample} voxels: {times:.1f} x the time")
        print(f"the same penalty for {100 * same.mean():.1f} % of them")
    return ratio


def main():
    """Measure in a scratch folder, or run one stage of a measurement."""
    options = parse_arguments()
    if options.stage:
        start = time.monotonic()
        STAGES[options.stage](options, options.folder)
        (options.folder / "seconds.txt").write_text(f"{time.monotonic() - start}")
        return
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        if report(options, Path(folder)) > TOLERANCE:
            sys.exit("the fit took more memory than predicted")


if __name__ == "__main__":
    main()
