"""Copy the figure subject's figure to the project's figures."""

from nsdldm.support.files import copy_file
from nsdldm.support.logs import logged

if __name__ == "__main__":
    with logged(snakemake.log[0]):
        for given, made in zip(snakemake.input, snakemake.output, strict=True):
            copy_file(given, made)
