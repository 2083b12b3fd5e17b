"""Write the captions of LAION-fMRI in the form of COCO's."""

from nsdldm.laion.captions import write_captions
from nsdldm.support.logs import logged

if __name__ == "__main__":
    with logged(snakemake.log[0]):
        write_captions(
            captions=snakemake.input.captions,
            metadata=snakemake.input.metadata,
            output=snakemake.output[0],
        )
