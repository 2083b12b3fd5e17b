"""Write the page with all maps of one subject."""

from nsdldm.nsd.layout import group_surfaces
from nsdldm.plots.cortex_page import write_cortex_page
from nsdldm.support.logs import logged

if __name__ == "__main__":
    given, params = snakemake.input, snakemake.params
    with logged(snakemake.log[0]):
        write_cortex_page(
            subject=snakemake.wildcards.subject,
            spaces=params.spaces,
            maps=given.maps,
            surfaces=group_surfaces(given.surfaces),
            demo=params.demo,
            output=snakemake.output.page,
            redirects=list(snakemake.output.redirects),
        )
