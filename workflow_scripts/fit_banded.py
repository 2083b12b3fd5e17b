"""Predict every cortical voxel of one subject from several feature spaces jointly."""

from nsdldm.encoding.banded import fit_banded
from nsdldm.encoding.fits import FitSettings
from nsdldm.support.logs import logged

if __name__ == "__main__":
    given, params = snakemake.input, snakemake.params
    with logged(snakemake.log[0]):
        fit_banded(
            kernels=list(given.kernels),
            predictions=snakemake.output[0],
            settings=FitSettings(**{key: params[key] for key in FitSettings._fields}),
            n_mixes=params.mixes,
            **{key: given[key] for key in ("responses", "images")},
            **{key: params[key] for key in ("spaces", "form")},
        )
