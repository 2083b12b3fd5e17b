"""Check in which order the betas of one subject's NSD-Imagery session are."""

from nsdldm.nsd.imagery import check_order
from nsdldm.nsd.layout import IMAGERY_RUNS
from nsdldm.support.logs import logged

if __name__ == "__main__":
    given = snakemake.input
    with logged(snakemake.log[0]):
        check_order(
            betas=given.betas,
            behaviour=dict(zip(IMAGERY_RUNS, given.behaviour, strict=True)),
            pairs=dict(zip("ABC", given.pairs, strict=True)),
            order=snakemake.params.order,
            table=snakemake.output[0],
        )
