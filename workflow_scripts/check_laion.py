"""Check that one subject's files of LAION-fMRI fit together."""

from nsdldm.laion.check import check_release
from nsdldm.support.logs import logged

if __name__ == "__main__":
    given = snakemake.input
    with logged(snakemake.log[0]):
        check_release(
            subject=snakemake.wildcards.subject,
            **{key: given[key] for key in ("metadata", "captions", "stimuli", "reference")},
            **{key: list(given[key]) for key in ("tables", "betas", "masks", "surfaces")},
            storage=snakemake.params.storage,
            report=snakemake.output[0],
        )
