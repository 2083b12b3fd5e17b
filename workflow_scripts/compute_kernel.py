"""Compute the Gram matrix of one feature space over one subject's images."""

from nsdldm.logs import logged
from nsdldm.ridge import compute_kernels

if __name__ == "__main__":
    feature = snakemake.wildcards.feature
    with logged(snakemake.log[0]):
        compute_kernels(
            features={feature: snakemake.input.features},
            images=snakemake.input.images,
            kernels={feature: snakemake.output[0]},
            max_components=snakemake.params.max_components,
            device=snakemake.params.device,
        )
