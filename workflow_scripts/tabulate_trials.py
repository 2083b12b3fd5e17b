"""List one subject's trials and the images shown."""

from nsdldm.nsd.trials import tabulate_trials
from nsdldm.support.logs import logged

if __name__ == "__main__":
    with logged(snakemake.log[0]):
        tabulate_trials(
            responses=snakemake.input.responses,
            design=snakemake.input.design,
            stim_info=snakemake.input.stim_info,
            trials=snakemake.output.trials,
            images=snakemake.output.images,
            subject=snakemake.wildcards.subject,
            sessions=snakemake.params.sessions,
        )
