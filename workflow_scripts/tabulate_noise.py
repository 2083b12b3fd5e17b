"""Compare unique variance under different noise."""

from nsdldm.encoding.group import tabulate_noise
from nsdldm.support.logs import logged

if __name__ == "__main__":
    with logged(snakemake.log[0]):
        tabulate_noise(table=snakemake.input[0], output=snakemake.output[0])
