"""Compare trained decoders with the ridge baseline: similarities, or n-way top-1 accuracy."""

from nsdldm.evaluation.trained import tabulate_fcae_table2, tabulate_fcae_table3
from nsdldm.support.logs import logged

TABLES = {"table2": tabulate_fcae_table2, "table3": tabulate_fcae_table3}

if __name__ == "__main__":
    given, params = snakemake.input, snakemake.params
    runs = [tuple(run) for run in params.runs]
    settings = ("alignments", "presets", "size", "dataset", "bootstrap", "seed")
    with logged(snakemake.log[0]):
        TABLES[snakemake.wildcards.table](
            summaries=dict(zip(runs, given.summaries, strict=True)),
            tables=dict(zip(runs, given.tables, strict=True)),
            weights=dict(zip(params.methods, given.weights, strict=True)),
            **{key: params[key] for key in settings},
            output=snakemake.output[0],
        )
