"""Join the chunks of one subject's reconstructions by one method."""

from nsdldm.diffusion.pictures import gather_reconstructions
from nsdldm.support.logs import logged

if __name__ == "__main__":
    given = snakemake.input
    with logged(snakemake.log[0]):
        gather_reconstructions(chunks=given.chunks, images=given.images, output=snakemake.output[0])
