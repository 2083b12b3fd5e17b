"""Draw the identification accuracy of every method and subject."""

from nsdldm.plots.fig5 import plot_fig5
from nsdldm.support.logs import logged

if __name__ == "__main__":
    given, params = snakemake.input, snakemake.params
    runs = [(subject, method) for subject, _, method in params.runs]
    with logged(snakemake.log[0]):
        plot_fig5(
            summaries=dict(zip(runs, given.summaries, strict=True)),
            tables=dict(zip(runs, given.tables, strict=True)),
            **{key: params[key] for key in ("protocol", "bootstrap", "seed", "demo")},
            **dict(snakemake.output.items()),
        )
