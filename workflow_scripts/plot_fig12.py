"""Draw scores by the size of the bottleneck (figure 12)."""

from nsdldm.plots.generalisation import plot_fig12
from nsdldm.support.logs import logged

if __name__ == "__main__":
    with logged(snakemake.log[0]):
        plot_fig12(
            table=snakemake.input[0],
            demo=snakemake.params.demo,
            **dict(snakemake.output.items()),
        )
