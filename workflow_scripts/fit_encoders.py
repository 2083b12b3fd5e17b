"""Predict every cortical voxel of one subject from a family of feature spaces."""

from nsdldm.encoding.fits import FitSettings, fit_encoders
from nsdldm.support.logs import logged

if __name__ == "__main__":
    given, params = snakemake.input, snakemake.params
    with logged(snakemake.log[0]):
        fit_encoders(
            kernels=list(given.kernels),
            base=given.get("base"),
            predictions=snakemake.output[0],
            settings=FitSettings(**{key: params[key] for key in FitSettings._fields}),
            **{key: given[key] for key in ("responses", "images")},
            **{key: params[key] for key in ("spaces", "form", "every")},
        )
