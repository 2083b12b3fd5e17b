"""Join the chunks of the latents found for one subject's test images."""

from nsdldm.decoding.prior import gather_priors
from nsdldm.support.logs import logged

if __name__ == "__main__":
    with logged(snakemake.log[0]):
        gather_priors(**dict(snakemake.input.items()), output=snakemake.output[0])
