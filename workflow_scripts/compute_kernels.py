"""Compute the kernels of a family of feature spaces over one subject's images."""

from nsdldm.features.kernels import compute_kernels
from nsdldm.support.logs import logged

if __name__ == "__main__":
    given, params = snakemake.input, snakemake.params
    with logged(snakemake.log[0]):
        compute_kernels(
            images=given.images,
            features=dict(zip(params.features, given.features, strict=True)),
            grams=dict(zip(params.grams, given.grams, strict=True)),
            output=snakemake.output[0],
            max_components=params.max_components,
            device=params.device,
        )
