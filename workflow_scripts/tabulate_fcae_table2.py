"""Compare trained decoders with the ridge baseline by error, correlation, SSIM and CLIP score."""

from nsdldm.evaluation.trained import tabulate_fcae_table2
from nsdldm.support.logs import logged

if __name__ == "__main__":
    given, params = snakemake.input, snakemake.params
    runs = [tuple(run) for run in params.runs]
    with logged(snakemake.log[0]):
        tabulate_fcae_table2(
            summaries=dict(zip(runs, given.summaries, strict=True)),
            tables=dict(zip(runs, given.tables, strict=True)),
            weights=dict(zip(params.trained, given.weights, strict=True)),
            **{key: params[key] for key in ("alignments", "presets", "size")},
            **{key: params[key] for key in ("data", "n_bootstrap", "seed")},
            output=snakemake.output[0],
        )
