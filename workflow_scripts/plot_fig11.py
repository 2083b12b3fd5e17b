"""Draw what holds in every case (figure 11)."""

from nsdldm.plots.generalisation import plot_fig11
from nsdldm.support.logs import logged

if __name__ == "__main__":
    with logged(snakemake.log[0]):
        plot_fig11(
            table=snakemake.input[0],
            demo=snakemake.params.demo,
            **dict(snakemake.output.items()),
        )
