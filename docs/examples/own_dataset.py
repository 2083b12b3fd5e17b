"""Bring your own GLMsingle output into the form that `dataset: arrays` reads (docs/datasets.md).

    python docs/examples/own_dataset.py GLMSINGLE_FOLDER OUTPUT_FOLDER SUBJECT

The first folder has TYPED_FITHRF_GLMDENOISE_RR.npy, trials.tsv (session and image of every
beta, in their order), and a NIfTI mask of each region: cortex.nii.gz, early.nii.gz, ventral.nii.gz.
images.tsv, captions.tsv and pictures, which all subjects share, you copy there yourself.
"""

import shutil
import sys
from pathlib import Path

import nibabel as nib
import numpy as np

if len(sys.argv) != 4:
    sys.exit(__doc__)
given, root, subject = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
own = root / subject
for name in ("betas", "masks"):
    (own / name).mkdir(parents=True, exist_ok=True)

# GLMsingle saves a dict, which needs pickle: only load files that you trust.
results = np.load(given / "TYPED_FITHRF_GLMDENOISE_RR.npy", allow_pickle=True).item()
betas = results["betasmd"]  # percent signal change, shape (X, Y, Z, n_trials)
# A voxel that is zero in all trials has no data.
betas = np.where((betas == 0).all(axis=-1, keepdims=True), np.nan, betas)

for path in sorted(given.glob("*.nii.gz")):
    mask = np.asanyarray(nib.load(path).dataobj) > 0
    if mask.shape != betas.shape[:3]:
        sys.exit(f"{path}: expected the grid of the betas, {betas.shape[:3]}, found {mask.shape}")
    # A row per trial; voxels in the order in which numpy walks through the mask.
    np.save(own / "betas" / path.name.replace(".nii.gz", ".npy"), betas[mask].T.astype(np.float32))
    shutil.copy(path, own / "masks" / path.name)
shutil.copy(given / "trials.tsv", own / "trials.tsv")
print(f"{own}: {betas.shape[-1]} trials, {len(list(own.glob('betas/*.npy')))} regions")
