"""Give every test image of one subject the mean features of the training images."""

from nsdldm.decoding.baselines import write_baselines
from nsdldm.support.logs import logged

if __name__ == "__main__":
    given, targets = snakemake.input, snakemake.params.targets
    with logged(snakemake.log[0]):
        write_baselines(
            images=given.images,
            features=dict(zip(targets, given.features, strict=True)),
            mean=dict(zip(targets, snakemake.output, strict=True)),
        )
