"""Write another version of one subject's simulated betas."""

from nsdldm.demo.sessions import simulate_other_betas
from nsdldm.support.logs import logged

if __name__ == "__main__":
    with logged(snakemake.log[0]):
        simulate_other_betas(
            betas=list(snakemake.input),
            outputs=list(snakemake.output),
            subject=snakemake.wildcards.subject,
            seed=snakemake.params.seed,
        )
