"""Tabulate the trials and images of NSD-synthetic, and copy its pictures."""

from nsdldm.nsd.synthetic import prepare_synthetic
from nsdldm.support.logs import logged

if __name__ == "__main__":
    with logged(snakemake.log[0]):
        prepare_synthetic(**dict(snakemake.input.items()), **dict(snakemake.output.items()))
