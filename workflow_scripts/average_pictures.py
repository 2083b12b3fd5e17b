"""Average the pictures that a subject's decoders are trained with."""

from nsdldm.logs import logged
from nsdldm.metrics.baselines import average_pictures

if __name__ == "__main__":
    given = snakemake.input
    with logged(snakemake.log[0]):
        average_pictures(images=given.images, stimuli=given.stimuli, output=snakemake.output[0])
