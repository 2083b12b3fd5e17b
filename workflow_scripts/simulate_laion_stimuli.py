"""Write the part of a simulated LAION-fMRI release that all subjects share."""

from nsdldm.demo.laion import simulate_shared
from nsdldm.support.logs import logged

if __name__ == "__main__":
    params = snakemake.params
    with logged(snakemake.log[0]):
        simulate_shared(root=params.root, subjects=params.subjects, **params.sizes)
