"""Draw accuracy and unique variance of all subjects by region."""

from nsdldm.plots.group import plot_group
from nsdldm.support.logs import logged

if __name__ == "__main__":
    with logged(snakemake.log[0]):
        plot_group(
            table=snakemake.input[0],
            left_out=snakemake.params.left_out,
            demo=snakemake.params.demo,
            **dict(snakemake.output.items()),
        )
