"""Copy the mask of one subject's region."""

from nsdldm.arrays import copy_mask
from nsdldm.support.logs import logged

if __name__ == "__main__":
    with logged(snakemake.log[0]):
        copy_mask(
            mask=snakemake.input.mask,
            reference=snakemake.input.reference,
            output=snakemake.output[0],
        )
