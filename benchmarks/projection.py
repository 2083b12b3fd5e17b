"""What a random projection of activations, or fewer components of them, costs figure 9.

    PYTHONPATH=. python benchmarks/projection.py --subject subj01 --step 50

reads a finished demo (its images, features, responses and masks), collects one step's activations
whole, and chooses the best block of each voxel by training cross-validation alone: from exact Gram
matrices, from these cut to a number of components, and from projections to some widths. Printed is
the share of voxels that keep the exact winner, among those that it predicts in cross-validation,
and how many voxels each block wins. 515 is to the demo's 792 training images as 6,400, the width of
config.nsd.yaml, to NSD's 9,841 images.
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np
import torch
import yaml

from nsdldm import ridge
from nsdldm.diffusion.denoising import Denoising
from nsdldm.diffusion.loading import Model
from nsdldm.encoding.blocks import rank_blocks
from nsdldm.encoding.fits import FitSettings, find_rows, plan_fits
from nsdldm.features.activations import make_projection, project
from nsdldm.features.grams import compute_grams
from nsdldm.features.kernels import Kernels, compute_kernels
from nsdldm.features.trajectories import Activations, collect_activations
from nsdldm.responses import Responses
from nsdldm.support.files import load_array, load_mask, load_table, save_array
from nsdldm.workflow.loading import load_settings


def parse_arguments():
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--config", default="config.yaml", help="of the finished run (config.yaml)")
    parser.add_argument("--results", type=Path, default=Path("results"), help="results")
    parser.add_argument("--subject", default="subj01", help="subj01")
    parser.add_argument("--step", type=int, default=50, help="percent of the steps (50)")
    parser.add_argument("--rois", nargs="+", default=["early", "ventral"], help="early ventral")
    parser.add_argument("--components", type=int, nargs="+", default=[515], help="515")
    parser.add_argument("--widths", type=int, nargs="+", default=[515, 2000], help="515 2000")
    return parser.parse_args()


def collect(config, folder, step, scratch):
    """Whole activations of one step by name of the block."""
    names = {name: f"unet-{name}-s{step:03d}" for name in config["trajectories"]["blocks"]}
    outputs = {space: scratch / f"{space}.npy" for space in names.values()}
    chosen = {key: config["trajectories"][key] for key in Activations._fields}
    start = f"before-s{step:03d}"
    collect_activations(
        images=folder / "images.tsv",
        before={start: folder / f"features/{start}.npy"},
        c=folder / "features/c.npy",
        model=Model(**{key: config["model"][key] for key in Model._fields}),
        denoising=Denoising(**config["denoising"]),
        activations=Activations(**chosen | {"reduction": "exact"}),
        outputs=outputs,
    )
    return {name: outputs[space] for name, space in names.items()}


def project_to(width, paths, scratch):
    """Projections of activations to a width; narrower ones stay whole."""
    made = {}
    for name, path in paths.items():
        values = np.array(load_array(path), np.float32)
        if values.shape[1] > width:
            matrix = make_projection(values.shape[1], width, torch.device("cpu"))
            values = project(matrix, torch.from_numpy(values)).numpy()
        made[name] = scratch / f"{name}.{width}.npy"
        save_array(made[name], values)
    return made


def prepare(config, folder, rois):
    """Training responses of the regions' voxels, which of them each region has, and the rows."""
    settings = config["encoding"]
    form = f"{'zscored' if settings['zscore'] else 'centred'}/{settings['train_on']}"
    responses = Responses(folder / "responses/cortex.h5", form)
    rows = find_rows(responses, load_table(folder / "images.tsv"))
    inside = load_mask(folder / "masks/cortex.nii.gz")
    regions = {roi: load_mask(folder / f"masks/{roi}.nii.gz")[inside] for roi in rois}
    wanted = np.any(list(regions.values()), axis=0)
    names = ("alphas", "n_folds", "memory_gb", "seed")
    how = FitSettings(**{name: settings[name] for name in names}, weights=[1], device="cpu")
    plan = plan_fits(rows, wanted.sum(), how)
    Y = responses.read_train()[:, wanted]
    return Y, {roi: mask[wanted] for roi, mask in regions.items()}, rows, plan


def score(config, folder, spaces, max_components, fitted, rows, plan, scratch):
    """R² by block and voxel, averaged over folds of the training images."""
    grams = {name: scratch / f"{name}.gram.npy" for name in spaces}
    images, settings = folder / "images.tsv", config["encoding"]
    chunks = {name: [path] for name, path in spaces.items()}
    compute_grams(chunks=chunks, images=images, grams=grams, device="cpu")
    output = scratch / "kernels.h5"
    compute_kernels(
        grams=grams, images=images, output=output, max_components=max_components, device="cpu"
    )
    kernels = Kernels([output])
    folds = ridge.group_folds(rows[0], settings["n_folds"], settings["seed"])
    fit = fitted, settings["alphas"], folds, plan
    return np.array([ridge.fit_ridge(*kernels.read_parts(name, rows), *fit)[2] for name in spaces])


def main():
    """Compare winners, and print a line a way."""
    options = parse_arguments()
    config = load_settings(yaml.safe_load(Path(options.config).read_text()))
    folder = options.results / options.subject
    ridge.set_device("cpu")
    fitted, regions, *how = prepare(config, folder, options.rois)
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        paths = collect(config, folder, options.step, scratch)
        ways = {"exact": (paths, 10**6)}
        ways |= {f"{n} components": (paths, n) for n in options.components}
        ways |= {
            f"projection to {width}": (project_to(width, paths, scratch), 10**6)
            for width in options.widths
        }
        known = None
        for way, (spaces, components) in ways.items():
            scores = score(config, folder, spaces, components, fitted, *how, scratch)
            best = rank_blocks(scores)[0]
            if known is None:
                exact, known = best, scores.max(axis=0) > 0
            for roi, inside in regions.items():
                chosen = inside & known
                kept = 100 * (best == exact)[chosen].mean()
                wins = zip(spaces, np.bincount(best[chosen], minlength=len(spaces)), strict=True)
                listed = ", ".join(f"{block} {count}" for block, count in wins)
                print(f"{way:20s} {roi:10s} {kept:5.0f} % of {chosen.sum()}; {listed}", flush=True)


if __name__ == "__main__":
    main()
