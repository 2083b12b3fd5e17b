"""Predict every cortical voxel of one subject from z, c and z_c."""

from nsdldm.encoding import fit_encoders
from nsdldm.logs import logged

if __name__ == "__main__":
    given, made, params = snakemake.input, snakemake.output, snakemake.params
    how = ("alphas", "n_folds", "fdr", "train_on", "zscore", "memory_gb", "seed", "device")
    with logged(snakemake.log[0]):
        fit_encoders(
            kernels=dict(zip(params.features, given.kernels, strict=True)),
            maps=dict(zip(params.features, made.maps, strict=True)),
            tables=dict(zip(params.features, made.tables, strict=True)),
            **{key: given[key] for key in ("betas", "trials", "images", "mask")},
            **{key: params[key] for key in how},
        )
