"""Score one subject's reconstructions by one method."""

from nsdldm.evaluation.evaluate import evaluate_reconstructions
from nsdldm.support.logs import logged

if __name__ == "__main__":
    given, params = snakemake.input, snakemake.params
    inputs = ("reconstructions", "images", "stimuli", "mean_picture")
    with logged(snakemake.log[0]):
        evaluate_reconstructions(
            **{key: given[key] for key in inputs},
            **{key: value for key, value in params.items() if key != "code"},
            **dict(snakemake.output.items()),
        )
