"""What the fast preset's sampler changes: scores of pictures by DDIM at 50 steps and by
DPM-Solver++ at 20.

    PYTHONPATH=. python benchmarks/fast.py --results results      # after make demo

makes the pictures of one subject's decoded z and c with both samplers, from the same noise, scores
both, and prints the mean difference over test images of each score with its 95 % confidence
interval (bootstrap over images), beside the score of a random other picture.
"""

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
import yaml

from nsdldm.diffusion.loading import Model
from nsdldm.diffusion.reconstruction import Reconstruction, reconstruct_chunk
from nsdldm.evaluation.evaluate import Comparison, evaluate_reconstructions
from nsdldm.intervals import bootstrap_interval
from nsdldm.support.files import load_table
from nsdldm.workflow.loading import load_settings
from nsdldm.workflow.release import Release

PROJECT = Path(__file__).resolve().parents[1]
SLOW = {"scheduler": "ddim", "num_inference_steps": 50}
FAST = yaml.safe_load((PROJECT / "config.fast.yaml").read_text())["reconstruction"]


def parse_arguments():
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--results", type=Path, default=Path("results"), help="of a run (results)")
    parser.add_argument("--subject", default="subj01", help="subj01")
    parser.add_argument("--method", default="zc", help="zc")
    return parser.parse_args()


def make(options, config, sampler, output):
    """Pictures by one sampler; returns the seconds."""
    folder = options.results / options.subject
    settings = {key: config["reconstruction"][key] for key in Reconstruction._fields}
    began = time.perf_counter()
    reconstruct_chunk(
        method=options.method,
        images=folder / "images.tsv",
        z=folder / "corrected/decoded/z.npy",
        c=folder / "corrected/decoded/c.npy",
        model=Model(**{key: config["model"][key] for key in Model._fields}),
        latent_resolution=config["model"]["resolution"],
        settings=Reconstruction(**settings | sampler),
        chunk=0,
        n_chunks=1,
        output=output,
    )
    return time.perf_counter() - began


def score(options, config, pictures, scratch):
    """Scores by image and metric, and by metric those of a random other picture."""
    folder = options.results / options.subject
    outputs = {name: scratch / f"{name}.tsv" for name in ("table", "samples", "summary")}
    evaluate_reconstructions(
        reconstructions=pictures,
        images=folder / "images.tsv",
        stimuli=options.results.parent / Release(config).locate_stimuli(options.subject),
        mean_picture=folder / "mean_picture.npy",
        comparison=Comparison(**{key: config["evaluation"][key] for key in Comparison._fields}),
        device=config["model"]["device"],
        batch_size=config["model"]["batch_size"],
        **outputs,
    )
    table = load_table(outputs["table"]).pivot(index="nsd_id", columns="metric", values="value")
    summary = load_table(outputs["summary"]).set_index("metric")
    return table, summary["chance_random"]


def main():
    """Print a row for each score."""
    options = parse_arguments()
    config = load_settings({})
    found, seconds = {}, {}
    with tempfile.TemporaryDirectory() as name:
        for label, sampler in (("slow", SLOW), ("fast", FAST)):
            pictures = Path(name) / f"{label}.h5"
            seconds[label] = make(options, config, sampler, pictures)
            found[label], chance = score(options, config, pictures, Path(name))
    table = found["slow"].dropna(axis=1, how="all")
    difference = (found["fast"] - found["slow"])[table.columns]
    evaluation = config["evaluation"]
    low, high = bootstrap_interval(
        difference.to_numpy(), evaluation["bootstrap"], evaluation["seed"]
    )
    rows = pd.DataFrame(
        {
            "random": chance[table.columns],
            "DDIM 50": table.mean(),
            "DPM-Solver++ 20": found["fast"][table.columns].mean(),
            "difference": difference.mean(),
            "low": low,
            "high": high,
        }
    )
    print("| score | random | DDIM 50 | DPM-Solver++ 20 | difference |\n|---|---|---|---|---|")
    for metric, row in rows.iterrows():
        ends = f"{row['difference']:+.4f} ({row['low']:+.4f} to {row['high']:+.4f})"
        numbers = " | ".join(f"{row[key]:.3f}" for key in ("random", "DDIM 50", "DPM-Solver++ 20"))
        print(f"| {metric} | {numbers} | {ends} |")
    clear = np.sum((rows["low"] > 0) | (rows["high"] < 0))
    print(f"\n{clear} of {len(rows)} intervals exclude 0; {len(difference)} images;")
    print(f"seconds {seconds['slow']:.0f} and {seconds['fast']:.0f}")


if __name__ == "__main__":
    main()
