"""Join the encoder scores of all subjects."""

from nsdldm.evaluation.trained import tabulate_encoders
from nsdldm.support.logs import logged

if __name__ == "__main__":
    given, params = snakemake.input, snakemake.params
    names = ("masked", "retrieval")
    with logged(snakemake.log[0]):
        tabulate_encoders(
            inputs={key: dict(zip(params.subjects, given[key], strict=True)) for key in names},
            outputs=dict(snakemake.output.items()),
            dataset=params.dataset,
        )
