"""Partition the variance of every cortical voxel of one subject between two feature spaces."""

from pathlib import Path

from nsdldm.encoding.variance import fit_pairs
from nsdldm.support.logs import logged

if __name__ == "__main__":
    given, made, params = snakemake.input, snakemake.output, snakemake.params
    pairs = [Path(path).stem for path in made.tables]
    with logged(snakemake.log[0]):
        fit_pairs(
            pairs=[pair.split("+") for pair in pairs],
            kernels={Path(path).stem: path for path in given.kernels},
            maps=dict(zip(pairs, made.maps, strict=True)),
            tables=dict(zip(pairs, made.tables, strict=True)),
            sums=made.sums,
            regions=dict(zip(params.rois, given.regions, strict=True)),
            **{key: given[key] for key in ("betas", "trials", "images", "mask")},
            **{key: value for key, value in params.items() if key not in ("rois", "code")},
        )
