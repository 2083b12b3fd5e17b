"""Copy the pictures that one subject saw from a bucket."""

from nsdldm.nsd.stimuli import fetch_stimuli
from nsdldm.support.logs import logged

if __name__ == "__main__":
    with logged(snakemake.log[0]):
        fetch_stimuli(
            stimuli=snakemake.input.stimuli,
            images=snakemake.input.images,
            output=snakemake.output[0],
            partial=snakemake.params.partial,
            storage=snakemake.params.storage,
        )
