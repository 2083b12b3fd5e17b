"""Write one subject's single-trial betas of each region as a matrix, from LAION-fMRI."""

from nsdldm.laion.betas import extract_matrices
from nsdldm.support.logs import logged

if __name__ == "__main__":
    rois = snakemake.params.rois
    with logged(snakemake.log[0]):
        extract_matrices(
            sessions=list(snakemake.input.betas),
            tables=list(snakemake.input.tables),
            masks=dict(zip(rois, snakemake.input.masks, strict=True)),
            partial=snakemake.params.partial,
            storage=snakemake.params.storage,
            outputs=dict(zip(rois, snakemake.output, strict=True)),
        )
