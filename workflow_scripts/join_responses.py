"""Convert one subject's responses to the input of networks."""

from nsdldm.support.logs import logged
from nsdldm.trained.data import join_responses

if __name__ == "__main__":
    with logged(snakemake.log[0]):
        join_responses(
            **dict(snakemake.input.items()),
            **{key: value for key, value in snakemake.params.items() if key != "code"},
            **dict(snakemake.output.items()),
        )
