"""Score one subject's reconstructions by one method."""

from nsdldm.evaluation.evaluate import Comparison, evaluate_reconstructions
from nsdldm.support.logs import logged

if __name__ == "__main__":
    given, params = snakemake.input, snakemake.params
    inputs = ("reconstructions", "images", "stimuli", "mean_picture")
    with logged(snakemake.log[0]):
        evaluate_reconstructions(
            **{key: given[key] for key in inputs},
            comparison=Comparison(**params.comparison),
            **{key: params[key] for key in ("device", "batch_size")},
            **dict(snakemake.output.items()),
        )
