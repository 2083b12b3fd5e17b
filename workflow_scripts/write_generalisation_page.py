"""Write the page on generalisation."""

from nsdldm.plots.generalisation_page import write_generalisation_page
from nsdldm.support.logs import logged

if __name__ == "__main__":
    given = snakemake.input
    with logged(snakemake.log[0]):
        write_generalisation_page(
            table=given.table,
            figures=list(given.figures),
            demo=snakemake.params.demo,
            output=snakemake.output[0],
        )
