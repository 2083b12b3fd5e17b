"""Time two-way identification: one matrix product against the published double loop.

    PYTHONPATH=. python benchmarks/identification.py

makes random features of the paper's size (982 images, 5 samples, 9,216 features), correlates all
of them with all by `nsdldm.evaluation.identification.correlate_features`, and calls `np.corrcoef`
for every pair of images as the published code does. The loop runs over the first seen pictures
only, each against all reconstructions, and its time is extrapolated to all; --full runs it whole.
Ends with status 1 if correlations or identification differ on what the loop covered.
"""

import argparse
import sys
import time

import numpy as np

from nsdldm.evaluation.identification import correlate_features, identify

TOLERANCE = 1e-12


def parse_arguments():
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    for name, default, what in (
        ("images", 982, "test images"),
        ("samples", 5, "pictures made of an image"),
        ("features", 9216, "features of a picture"),
        ("originals", 10, "seen pictures that the loop runs over"),
    ):
        parser.add_argument(f"--{name}", type=int, default=default, help=f"{what} ({default})")
    parser.add_argument("--full", action="store_true", help="loop over all seen pictures")
    options = parser.parse_args()
    options.originals = options.images if options.full else min(options.originals, options.images)
    return options


def make_features(options):
    """Random features of seen pictures, and of pictures that resemble them a little."""
    rng = np.random.default_rng(0)
    shape = options.images, options.samples, options.features
    original = rng.standard_normal((options.images, options.features), np.float32)
    generated = rng.standard_normal(shape, np.float32)
    generated += original[:, None] * np.float32(2 / np.sqrt(options.features))
    return original, generated


def run_loop(original, generated):
    """Mean correlation of each seen picture with each image's pictures, one pair at a time."""
    rows = []
    for seen in original:
        rows.append([np.corrcoef(seen, made)[0, 1:].mean() for made in generated])
    return np.array(rows)


def measure(function, *arguments):
    """A function's result and its seconds."""
    start = time.perf_counter()
    result = function(*arguments)
    return result, time.perf_counter() - start


def main():
    """Measure both ways, compare what they found, and print a table."""
    options = parse_arguments()
    original, generated = make_features(options)
    # The first matrix product of a process starts its threads.
    correlate_features(original[:8], generated[:8])
    found, product = measure(correlate_features, original, generated)
    looped, seconds = measure(run_loop, original[: options.originals], generated)
    whole = seconds * options.images / options.originals
    sizes = options.images, options.samples, options.features
    print("{} images x {} samples x {} features".format(*sizes))
    print(f"matrix product   {product:10.2f} s")
    print(f"np.corrcoef loop {seconds:10.2f} s for {options.originals} seen pictures")
    if options.originals < options.images:
        print(f"                 {whole:10.2f} s for all, extrapolated")
    print(f"ratio            {whole / product:10.1f}")
    rows = found[: options.originals]
    largest = np.abs(rows - looped).max()
    expected = (np.diagonal(looped)[:, None] > looped).sum(axis=1) / (options.images - 1)
    shares = identify(found)[0]
    same = largest < TOLERANCE and np.array_equal(shares[: options.originals], expected)
    print(f"largest difference of r {largest:.1e}; identification {'equal' if same else 'DIFFERS'}")
    print(f"identified: {shares.mean():.3f} of comparisons")
    if not same:
        sys.exit(1)


if __name__ == "__main__":
    main()
