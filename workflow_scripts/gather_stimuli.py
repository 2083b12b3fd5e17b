"""Write the pictures of all images into one file."""

from nsdldm.arrays import gather_stimuli
from nsdldm.support.logs import logged

if __name__ == "__main__":
    with logged(snakemake.log[0]):
        gather_stimuli(
            images=snakemake.input.images,
            pictures=snakemake.input.pictures,
            output=snakemake.output[0],
        )
