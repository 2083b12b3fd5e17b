"""Seconds of a ridge decoder: himalaya's RidgeCV, and the same from sums over trials.

    PYTHONPATH=. python benchmarks/ridge.py                  # 8,000 trials x 2,000 voxels x 1,000
    PYTHONPATH=. python benchmarks/ridge.py --paper          # z at the paper's size
    PYTHONPATH=. python benchmarks/ridge.py --tiny           # seconds, to see that it runs

fits the same arrays by each way, one after the other in this process, and says how many targets get
the same penalty and how far predictions differ. At the paper's size (24,980 trials, 5,900 voxels,
6,400 targets), himalaya on a CPU fits one fold, with one penalty and 500 targets, and is
extrapolated: decompositions by the number of folds, products by penalties and targets too. With a
GPU, each way runs there as well. --json writes the table with machine, date and versions.
"""

import argparse
import json
import os
import platform
import resource
import sys
import time
from datetime import date
from importlib.metadata import version
from pathlib import Path

import himalaya.backend
import numpy as np
import torch

from nsdldm import ridge
from nsdldm.decoding.statistics import Ridge, Sums

ALPHAS = [1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6]
FOLDS, SEED, TEST = 5, 0, 500
SIZES = {"default": (8000, 2000, 1000), "paper": (24_980, 5900, 6400), "tiny": (600, 100, 80)}
# Of the extrapolated fit.
FEW = 500


def simulate(n, n_voxels, n_targets):
    """Standardised responses to images that are shown three times, and targets by image."""
    rng = np.random.default_rng(SEED)
    rows = rng.permutation(np.arange(n) % -(-n // 3))
    features = rng.standard_normal((rows.max() + 1, n_targets), np.float32)
    mixing = rng.standard_normal((n_targets, n_voxels), np.float32) / np.sqrt(n_targets)
    # From targets that nothing predicts to some that much does.
    mixing *= np.linspace(0, 2, n_targets, dtype=np.float32)[:, None]
    X = features[rows] @ mixing
    X += rng.standard_normal((n, n_voxels), np.float32)
    X -= X.mean(axis=0)
    X /= X.std(axis=0)
    return X, features, rows, rng.standard_normal((TEST, n_voxels), np.float32)


def fit_sums(X, features, rows, X_test, folds):
    """Ours."""
    sums = Sums(folds, rows, X.shape[1])
    sums.add(X, np.arange(len(X)))
    return Ridge(sums, ALPHAS, True).fit(features, X_test)


def fit_himalaya(X, features, rows, X_test, folds):
    """himalaya's."""
    return ridge.fit_decoder(X, features[rows], X_test, ALPHAS, folds, True)


def extrapolate(X, features, rows, X_test, folds):
    """Seconds of himalaya's fit of everything, from one fold with one penalty and few targets.

    The fold and the fit to all trials each take a decomposition; their products grow with penalties
    and targets, and are measured with half as many targets.
    """
    seconds = []
    for n_targets in (FEW // 2, FEW):
        began = time.perf_counter()
        Y = features[rows, :n_targets]
        ridge.fit_decoder(X, Y, X_test, ALPHAS[3:4], folds[:1], True)
        seconds.append(time.perf_counter() - began)
    of_target = max(seconds[1] - seconds[0], 0) / (FEW - FEW // 2)
    fixed = seconds[1] - of_target * FEW
    # One fold and the final fit were measured.
    n_targets = features.shape[1]
    products = of_target * n_targets * (FOLDS * len(ALPHAS) + 1) / 2
    return fixed * (FOLDS + 1) / 2 + products, sum(seconds)


def measure(way, device, arrays, rows_of_table, reference=None):
    """Run a way on a device, and add a row; returns its fit."""
    himalaya.backend.set_backend(device)
    if device == "torch_cuda":
        torch.cuda.reset_peak_memory_stats()
        # The first call initialises libraries.
        torch.linalg.eigh(torch.eye(8, device="cuda", dtype=torch.float64))
    began = time.perf_counter()
    fit = {"himalaya": fit_himalaya, "sums": fit_sums}[way](*arrays)
    row = {"way": way, "backend": device, "seconds": time.perf_counter() - began}
    if reference is not None:
        same = fit[1] == reference[1]
        row["same penalties"] = float(same.mean())
        deviation = arrays[1].std(axis=0)[same]
        error = np.abs(fit[0] - reference[0])[:, same] / deviation
        row["largest difference"] = float(error.max())
    rows_of_table.append(row)
    show(row)
    return fit


def show(row):
    """Print a row of the table."""
    cells = f"{row['way']:10s}{row['backend']:12s}{row['seconds']:10.1f}"
    if "same penalties" in row:
        cells += f"{row['same penalties']:12.4%}{row['largest difference']:14.1e}"
    print(cells + row.get("note", ""), flush=True)


def describe(size):
    """Machine, date and versions."""
    libraries = ("numpy", "torch", "himalaya", "scipy")
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {
        "date": date.today().isoformat(),
        "size": size,
        "machine": f"{platform.machine()}, {len(os.sched_getaffinity(0))} cores",
        "gpu": gpu,
        "versions": {name: version(name) for name in libraries},
    }


def main():
    """Measure all ways and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    for name in ("paper", "tiny"):
        parser.add_argument(f"--{name}", action="store_true", help=f"{SIZES[name]}")
    parser.add_argument("--size", type=int, nargs=3, help="trials, voxels, targets")
    parser.add_argument("--json", type=Path, help="also write the table there")
    options = parser.parse_args()
    chosen = "paper" if options.paper else "tiny" if options.tiny else "default"
    size = tuple(options.size or SIZES[chosen])
    X, features, rows, X_test = simulate(*size)
    folds = ridge.group_folds(rows, FOLDS, SEED)
    arrays = X, features, rows, X_test, folds
    trials, voxels, targets = (f"{number:,}" for number in size)
    print(f"{trials} trials x {voxels} voxels -> {targets} targets, {len(ALPHAS)} penalties")
    heads = f"{'way':10s}{'backend':12s}{'seconds':>10s}{'penalties':>12s}{'difference':>14s}"
    print(heads, flush=True)
    table = []
    devices = ["torch", *(["torch_cuda"] if torch.cuda.is_available() else [])]
    reference = None
    if options.paper:
        himalaya.backend.set_backend("torch")
        seconds, spent = extrapolate(*arrays)
        note = f"  extrapolated from {spent:.0f} s"
        table.append({"way": "himalaya", "backend": "torch", "seconds": seconds, "note": note})
        show(table[-1])
        devices = devices[-1:] + devices[:-1]
    for device in devices:
        if not (options.paper and device == "torch"):
            found = measure("himalaya", device, arrays, table, reference)
            reference = reference or found
        found = measure("sums", device, arrays, table, reference)
        reference = reference or found
    times = {(row["way"], row["backend"]): row["seconds"] for row in table}
    for device in devices:
        ratio = times["himalaya", device] / times["sums", device]
        print(f"{device}: himalaya / sums {ratio:.1f}")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(f"peak {peak * (1 if sys.platform == 'darwin' else 1024) / 1e9:.1f} GB")
    if options.json:
        options.json.write_text(json.dumps(describe(size) | {"rows": table}, indent=1) + "\n")


if __name__ == "__main__":
    main()
