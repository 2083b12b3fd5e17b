"""Redraw figure 7 from the tables of a finished run, here with significant voxels alone.

    python docs/examples/redraw_fig7.py results results/demo subj01 mine

writes mine.png, mine.pdf and mine.tsv from the results and the release named.
"""

import sys
from pathlib import Path

import pandas as pd

from nsdldm.features.spaces import split_control
from nsdldm.nsd import layout
from nsdldm.plots.cortex import Anatomy
from nsdldm.plots.fig7 import plot_unique_variance

results, release, subject, name = sys.argv[1:]
own, root = Path(results, subject), Path(release)
drawn = pd.read_csv(own / "figures/fig7.tsv", sep="\t")["pair"].unique()
rows = [pair for pair in drawn if not split_control(pair)[1]]
transforms = (root / f"nsddata/ppdata/{subject}/transforms").glob("?h.func1pt8-to-layer*")
surfaces = [
    str(root / template.format(subject=subject, hemi=hemi, name=surface))
    for hemi in layout.HEMISPHERES
    for template, surface in layout.DRAWN_SURFACES
]
plot_unique_variance(
    subject=subject,
    tables={pair: own / f"encoding/{pair}.tsv" for pair in drawn},
    anatomy=Anatomy(
        {path.name.removesuffix(".nii.gz"): path for path in sorted(own.glob("masks/*.nii.gz"))},
        layout.group_transforms(sorted(map(str, transforms))),
        layout.group_surfaces(surfaces),
    ),
    pictures=[own / f"strips/{pair.removeprefix('z+')}.npy" for pair in rows],
    drawn="unique",
    demo=True,
    **{suffix: f"{name}.{suffix}" for suffix in ("png", "pdf", "tsv")},
)
