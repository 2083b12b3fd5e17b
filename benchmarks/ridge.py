"""Seconds of a ridge decoder: himalaya's RidgeCV, and the same from sums over trials.

    PYTHONPATH=. python benchmarks/ridge.py                  # 8,000 trials x 2,000 voxels x 1,000
    PYTHONPATH=. python benchmarks/ridge.py --paper          # z at the paper's size
    PYTHONPATH=. python benchmarks/ridge.py --tiny           # seconds, to see that it runs

fits the same arrays by each way, one after the other in this process, and says how many targets get
the same penalty as with himalaya's torch backend and how far predictions differ, in SD of a target.
himalaya runs on its numpy backend too. With a GPU, each way runs there as well. At the paper's size
(24,980 trials, 5,900 voxels, 6,400 targets), himalaya on a CPU fits one fold with torch alone, with
one penalty and 500 targets, and is extrapolated: decompositions by the number of folds, products by
penalties and targets too. --json FILE writes the table with machine, date and versions.
"""

import argparse
import time

import himalaya.backend
import numpy as np
import torch

import report
from nsdldm import ridge
from nsdldm.decoding.statistics import Ridge, Sums

ALPHAS = [1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6]
FOLDS, SEED, TEST = 5, 0, 500
SIZES = {"default": (8000, 2000, 1000), "paper": (24_980, 5900, 6400), "tiny": (600, 100, 80)}
# Of the extrapolated fit.
FEW = 500
COLUMNS = {"way": "", "backend": "", "seconds": ".2f", "same penalties": ".2%"}
COLUMNS |= {"largest difference": ".1e", "GPU GB": ".1f", "note": ""}


def simulate(n, n_voxels, n_targets):
    """Standardised responses to images that are shown three times, and targets by image, in float32
    as the workflow has them."""
    rng = np.random.default_rng(SEED)
    rows = rng.permutation(np.arange(n) % -(-n // 3))
    features = rng.standard_normal((rows.max() + 1, n_targets), np.float32)
    mixing = rng.standard_normal((n_targets, n_voxels), np.float32)
    # From targets that nothing predicts to some that much does.
    strengths = np.linspace(0, 2, n_targets) / np.sqrt(n_targets)
    mixing *= strengths.astype(np.float32)[:, None]
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


def measure(way, backend, arrays, reference=None):
    """Run a way on a backend; returns its row of the table and its fit."""
    himalaya.backend.set_backend(backend)
    if backend == "torch_cuda":
        # The first call initialises libraries.
        torch.linalg.eigh(torch.eye(8, device="cuda", dtype=torch.float64))
        torch.cuda.reset_peak_memory_stats()
    began = time.perf_counter()
    fit = {"himalaya": fit_himalaya, "sums": fit_sums}[way](*arrays)
    row = {"way": way, "backend": backend, "seconds": time.perf_counter() - began}
    if backend == "torch_cuda":
        row["GPU GB"] = torch.cuda.max_memory_allocated() / 1e9
    if reference is not None:
        same = fit[1] == reference[1]
        row["same penalties"] = float(same.mean())
        deviation = arrays[1].std(axis=0)[same]
        error = np.abs(fit[0] - reference[0])[:, same] / deviation
        row["largest difference"] = float(error.max())
    return row, fit


def list_ways(paper, gpu):
    """Ways and backends to measure, in order; the first is what others are compared with."""
    on_gpu = [("himalaya", "torch_cuda"), ("sums", "torch_cuda")] if gpu else []
    if paper:
        return [*on_gpu, ("sums", "torch")]
    return [("himalaya", "torch"), ("himalaya", "numpy"), ("sums", "torch"), *on_gpu]


def parse_arguments():
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--paper", action="store_true", help=f"{SIZES['paper']}")
    parser.add_argument("--size", type=int, nargs=3, help="trials, voxels, targets")
    options = report.parse_options(parser, {"size": SIZES["tiny"]})
    options.size = options.size or SIZES["paper" if options.paper else "default"]
    return options


def main():
    """Measure all ways and print a table."""
    options = parse_arguments()
    X, features, rows, X_test = simulate(*options.size)
    arrays = X, features, rows, X_test, ridge.group_folds(rows, FOLDS, SEED)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    report.announce(device)
    trials, voxels, targets = (f"{number:,}" for number in options.size)
    print(f"{trials} trials x {voxels} voxels -> {targets} targets, {len(ALPHAS)} penalties")
    table, reference = report.Table(COLUMNS), None
    if options.paper:
        himalaya.backend.set_backend("torch")
        seconds, spent = extrapolate(*arrays)
        note = f"extrapolated from {spent:.0f} s"
        table.add({"way": "himalaya", "backend": "torch", "seconds": seconds, "note": note})
    for way, backend in list_ways(options.paper, device == "cuda"):
        row, fit = measure(way, backend, arrays, reference)
        table.add(row)
        reference = reference or fit
    times = {(row["way"], row["backend"]): row["seconds"] for row in table.rows}
    ratios = {
        backend: times["himalaya", backend] / seconds
        for (way, backend), seconds in times.items()
        if way == "sums"
    }
    for backend, ratio in ratios.items():
        print(f"{backend}: himalaya / sums {ratio:.1f}")
    peak = report.measure_peaks("cpu")["peak GB"]
    print(f"peak {peak:.1f} GB")
    more = {"himalaya / sums": ratios, "peak GB": peak}
    table.write(options.json, options, device, **more)


if __name__ == "__main__":
    main()
