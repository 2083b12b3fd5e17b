"""Compute where one subject's cortex is in the functional volume, and its flat maps."""

from nsdldm.laion.surfaces import prepare_surfaces
from nsdldm.support.logs import logged

if __name__ == "__main__":
    with logged(snakemake.log[0]):
        prepare_surfaces(
            reference=snakemake.input.reference,
            **{key: list(snakemake.input[key]) for key in ("white", "pial", "spheres")},
            **{key: list(own) for key, own in snakemake.output.items()},
        )
