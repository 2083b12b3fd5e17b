"""Write one subject's part of a simulated LAION-fMRI release."""

from nsdldm.demo.laion_subject import simulate_subject
from nsdldm.support.logs import logged

if __name__ == "__main__":
    params = snakemake.params
    with logged(snakemake.log[0]):
        simulate_subject(
            root=params.root,
            subject=snakemake.wildcards.subject,
            sessions=params.sessions,
            **params.sizes,
        )
