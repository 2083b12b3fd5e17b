"""Figure 10: what every added target is worth."""

from nsdldm.plots.fig10 import plot_fig10
from nsdldm.support.logs import logged

if __name__ == "__main__":
    with logged(snakemake.log[0]):
        plot_fig10(
            table=snakemake.input[0],
            **{key: snakemake.params[key] for key in ("methods", "metrics", "given", "demo")},
            **dict(snakemake.output.items()),
        )
