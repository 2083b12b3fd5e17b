"""Standardise and average one subject's responses in one region, with their noise ceiling."""

from nsdldm.responses import prepare_responses
from nsdldm.support.logs import logged

if __name__ == "__main__":
    with logged(snakemake.log[0]):
        prepare_responses(
            **dict(snakemake.input.items()),
            output=snakemake.output[0],
            forms=snakemake.params.forms,
        )
