"""Make pictures from one subject's test responses with a trained decoder, for one chunk."""

from nsdldm.diffusion.loading import Model
from nsdldm.support.logs import logged
from nsdldm.trained.sampling import Sampling, reconstruct_trained

if __name__ == "__main__":
    given, params, names = snakemake.input, snakemake.params, snakemake.wildcards
    with logged(snakemake.log[0]):
        reconstruct_trained(
            **{key: names[key] for key in ("method", "subject")},
            **{key: given[key] for key in ("images", "responses", "rows", "weights")},
            model=Model(**params.model),
            sampling=Sampling(**params.sampling),
            **{key: params[key] for key in ("resolution", "n_chunks")},
            chunk=int(names.chunk),
            output=snakemake.output[0],
        )
