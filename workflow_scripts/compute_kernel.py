"""Compute the kernel of each feature space over one subject's images."""

from pathlib import Path

from nsdldm.ridge import compute_kernels
from nsdldm.support.logs import logged

if __name__ == "__main__":
    given = snakemake.input
    with logged(snakemake.log[0]):
        compute_kernels(
            images=given.images,
            features={Path(path).stem: path for path in given.features},
            grams={Path(path).stem: path for path in given.get("grams", [])},
            kernels={Path(path).stem: path for path in snakemake.output},
            max_components=snakemake.params.max_components,
            device=snakemake.params.device,
        )
