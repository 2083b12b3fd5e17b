"""List one subject's trials and the images shown, from tables of LAION-fMRI."""

from nsdldm.laion.trials import tabulate_trials
from nsdldm.support.logs import logged

if __name__ == "__main__":
    given, params = snakemake.input, snakemake.params
    with logged(snakemake.log[0]):
        tabulate_trials(
            subject=snakemake.wildcards.subject,
            tables=dict(zip(params.sessions, given.tables, strict=True)),
            metadata=given.metadata,
            trials=snakemake.output.trials,
            images=snakemake.output.images,
        )
