"""Write one subject's single-trial betas of a region as the workflow reads them."""

from nsdldm.arrays import copy_betas
from nsdldm.support.logs import logged

if __name__ == "__main__":
    with logged(snakemake.log[0]):
        copy_betas(
            betas=snakemake.input.betas,
            trials=snakemake.input.trials,
            output=snakemake.output[0],
        )
