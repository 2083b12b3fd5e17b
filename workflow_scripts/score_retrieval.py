"""Score how well decoded embeddings of one subject retrieve images."""

from nsdldm.evaluation.retrieval import score_retrieval
from nsdldm.support.logs import logged

if __name__ == "__main__":
    given, params = snakemake.input, snakemake.params
    with logged(snakemake.log[0]):
        score_retrieval(
            **dict(given.items()),
            **{key: params[key] for key in ("candidates", "bootstrap", "seed")},
            table=snakemake.output[0],
        )
