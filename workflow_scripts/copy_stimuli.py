"""Decode the pictures of LAION-fMRI that one subject saw."""

from nsdldm.laion.stimuli import copy_stimuli
from nsdldm.support.logs import logged

if __name__ == "__main__":
    with logged(snakemake.log[0]):
        copy_stimuli(
            stimuli=snakemake.input.stimuli,
            images=snakemake.input.images,
            output=snakemake.output[0],
            storage=snakemake.params.storage,
        )
