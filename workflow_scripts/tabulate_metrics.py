"""Tabulate the scores of all subjects, protocols and methods with published ones."""

from nsdldm.evaluation.tables import tabulate_metrics
from nsdldm.support.logs import logged

if __name__ == "__main__":
    given, params = snakemake.input, snakemake.params
    runs = [tuple(run) for run in params.runs]
    with logged(snakemake.log[0]):
        tabulate_metrics(
            summaries=dict(zip(runs, given.summaries, strict=True)),
            tables=dict(zip(runs, given.tables, strict=True)),
            **{key: params[key] for key in ("dataset", "bootstrap", "seed")},
            output=snakemake.output[0],
        )
