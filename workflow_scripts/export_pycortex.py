"""Write one subject's surfaces and maps for pycortex."""

from nsdldm.exports.pycortex import export_pycortex
from nsdldm.nsd.layout import group_surfaces
from nsdldm.support.logs import logged

if __name__ == "__main__":
    with logged(snakemake.log[0]):
        export_pycortex(
            subject=snakemake.wildcards.subject,
            maps=snakemake.input.maps,
            surfaces=group_surfaces(snakemake.input.surfaces),
            output=snakemake.output[0],
        )
