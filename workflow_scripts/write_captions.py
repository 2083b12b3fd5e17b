"""Write captions in the form of COCO's."""

from nsdldm.arrays import write_captions
from nsdldm.support.logs import logged

if __name__ == "__main__":
    with logged(snakemake.log[0]):
        write_captions(
            images=snakemake.input.images,
            captions=snakemake.input.captions,
            output=snakemake.output[0],
        )
