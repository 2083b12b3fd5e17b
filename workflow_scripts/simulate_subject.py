"""Simulate one subject's brain and write its part of the release."""

from nsdldm.demo.release import simulate_subject
from nsdldm.support.logs import logged

if __name__ == "__main__":
    with logged(snakemake.log[0]):
        simulate_subject(
            subject=snakemake.wildcards.subject,
            design=snakemake.input.design,
            stimuli=snakemake.input.stimuli,
            root=snakemake.params.root,
            seed=snakemake.params.seed,
            scenes_seed=snakemake.params.seed,
            sessions=snakemake.params.sessions,
        )
