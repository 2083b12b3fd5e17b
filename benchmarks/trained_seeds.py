"""Scores of trained decoders on another simulated release, with several seeds of training.

    PYTHONPATH=. python benchmarks/trained_seeds.py --folder /tmp/nsdldm-seeds --demo-seed 43 \\
        --training-seeds 42 43 44

runs the workflow for one subject in a folder of its own. The release, features, betas and ridge
decoders are made once; with every further seed only the trainings and what follows them are
repeated. Goes on where it was interrupted. Prints a row per method: means over test images and
seeds of training, with 95 % intervals from a bootstrap that draws images and seeds independently,
and the mean of each seed.
"""

import argparse
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import yaml

from nsdldm.intervals import bootstrap_runs
from nsdldm.support.files import load_table

PROJECT = Path(__file__).resolve().parents[1]
METRICS = (
    *("nway-4:demo-judge", "2way-reconstruction:demo-clip:image_embeds"),
    *("clipscore:demo-clip", "pixcorr", "mse"),
)
N_BOOTSTRAP = 10_000


def parse_arguments():
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--folder", type=Path, required=True, help="where everything is written")
    parser.add_argument("--subject", default="subj01", help="(subj01)")
    parser.add_argument("--demo-seed", type=int, default=43, help="of the release (43)")
    seeds = [42, 43, 44]
    parser.add_argument("--training-seeds", type=int, nargs="+", default=seeds, help="(42 43 44)")
    methods = ["fcae", "fcae-f", "mind-vis", "vis-dec"]
    parser.add_argument("--methods", nargs="+", default=methods, help="of trained.methods")
    parser.add_argument("--ridge", nargs="*", default=["zc", "true-zc"], help="ridge methods")
    parser.add_argument("--cores", type=int, default=1, help="jobs at a time, a thread each (1)")
    return parser.parse_args()


def run_workflow(options, seed, names):
    """Let Snakemake evaluate methods with a seed of training; returns the tables' paths."""
    if not (options.folder / "resources").exists():
        (options.folder / "resources").symlink_to(PROJECT / "resources")
    changes = {
        "subjects": [options.subject],
        "figure_subject": options.subject,
        "demo": {"seed": options.demo_seed},
        "reconstruction": {"samples": 1},
        "trained": {"subjects": [options.subject], "seed": seed},
    }
    (options.folder / "changes.yaml").write_text(yaml.safe_dump(changes))
    paths = {}
    for name in names:
        kind = "corrected" if name in options.ridge else "trained"
        paths[name] = f"results/{options.subject}/{kind}/evaluation/{name}.tsv"
    command = [sys.executable, "-m", "snakemake", "--snakefile", PROJECT / "Snakefile"]
    command += ["--directory", options.folder, "--cores", options.cores, "--max-threads", "1"]
    command += ["--resources", f"gpu={options.cores}", "--configfile"]
    command += [PROJECT / "config.yaml", options.folder / "changes.yaml", "--", *paths.values()]
    subprocess.run(list(map(str, command)), check=True, cwd=options.folder)
    return {name: options.folder / path for name, path in paths.items()}


def collect_runs(options):
    """Tables of scores by method and training seed, kept beside what the next seed replaces."""
    tables = {}
    names = [*options.ridge, *options.methods]
    for seed in options.training_seeds:
        kept = {name: options.folder / f"kept/{seed}/{name}.tsv" for name in names}
        missing = [name for name, path in kept.items() if not path.exists()]
        if missing:
            for name, path in run_workflow(options, seed, missing).items():
                kept[name].parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(path, kept[name])
        tables[seed] = {name: load_table(path) for name, path in kept.items()}
    return tables


def describe(tables, method, metric):
    """A cell: mean over images and seeds, interval, and where seeds differ the mean of each."""
    values = []
    for of_method in tables.values():
        scores = of_method[method]
        scores = scores[scores["metric"] == metric].sort_values("nsd_id")
        values.append(scores["value"].to_numpy())
    values = np.stack(values)
    low, high = bootstrap_runs(values, N_BOOTSTRAP, 0)
    text = f"{values.mean():.3f} ({low:.3f} to {high:.3f})"
    # The same for every seed: decoded by ridge.
    if (values == values[0]).all():
        return text
    return f"{text}: " + ", ".join(f"{mean:.3f}" for mean in values.mean(axis=1))


def main():
    """Run everything and print the table."""
    options = parse_arguments()
    options.folder = options.folder.resolve()
    options.folder.mkdir(parents=True, exist_ok=True)
    tables = collect_runs(options)
    n_images = next(iter(tables.values()))[options.methods[0]]["nsd_id"].nunique()
    seeds = ", ".join(map(str, options.training_seeds))
    n = len(options.methods) * len(tables)
    print(f"{options.subject} of the demo with seed {options.demo_seed}, {n_images} test images;")
    print(f"{n} trained decoders: {len(options.methods)} methods with training seeds {seeds}.")
    print("Mean (95 % interval over images and seeds): mean of each seed\n")
    print("| | " + " | ".join(METRICS) + " |")
    print("|" + "---|" * (1 + len(METRICS)))
    for method in [*options.ridge, *options.methods]:
        cells = [describe(tables, method, metric) for metric in METRICS]
        print(f"| `{method}` | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
