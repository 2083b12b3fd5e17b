"""Compute the Gram matrix of each feature space over one subject's images."""

from pathlib import Path

from nsdldm.logs import logged
from nsdldm.ridge import compute_kernels

if __name__ == "__main__":
    given = snakemake.input
    names = [Path(path).stem for path in given.features]
    with logged(snakemake.log[0]):
        compute_kernels(
            features=dict(zip(names, given.features, strict=True)),
            images=given.images,
            kernels=dict(zip(names, snakemake.output, strict=True)),
            max_components=snakemake.params.max_components,
            device=snakemake.params.device,
        )
