"""Check that one subject's arrays and tables fit together."""

from nsdldm.arrays import check_arrays
from nsdldm.support.logs import logged

if __name__ == "__main__":
    given = snakemake.input
    with logged(snakemake.log[0]):
        check_arrays(
            **{key: given[key] for key in ("images", "trials", "captions", "stimuli")},
            betas=list(given.betas),
            masks=list(given.masks),
            report=snakemake.output[0],
        )
