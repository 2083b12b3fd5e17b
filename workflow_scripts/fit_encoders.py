"""Predict every cortical voxel of one subject from z, c and z_c."""

from nsdldm.encoding.fits import fit_encoders
from nsdldm.support.logs import logged

if __name__ == "__main__":
    given, made, params = snakemake.input, snakemake.output, snakemake.params
    with logged(snakemake.log[0]):
        fit_encoders(
            kernels=dict(zip(params.features, given.kernels, strict=True)),
            maps=dict(zip(params.features, made.maps, strict=True)),
            tables=dict(zip(params.features, made.tables, strict=True)),
            sums=made.sums,
            regions=dict(zip(params.rois, given.regions, strict=True)),
            **{key: given[key] for key in ("betas", "trials", "images", "mask")},
            **{k: v for k, v in params.items() if k not in ("features", "rois", "code")},
        )
