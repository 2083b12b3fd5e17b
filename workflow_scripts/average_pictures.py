"""Average the pictures that a subject's decoders are trained on."""

from nsdldm.evaluation.baselines import average_pictures
from nsdldm.support.logs import logged

if __name__ == "__main__":
    given = snakemake.input
    with logged(snakemake.log[0]):
        average_pictures(images=given.images, stimuli=given.stimuli, output=snakemake.output[0])
