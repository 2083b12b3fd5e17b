"""Find latents whose pictures have decoded features, for one chunk of a subject's test images."""

from nsdldm.decoding.prior import Inversion, invert_features
from nsdldm.diffusion.loading import Model
from nsdldm.support.logs import logged

if __name__ == "__main__":
    given, params = snakemake.input, snakemake.params
    with logged(snakemake.log[0]):
        invert_features(
            **{key: given[key] for key in ("decoded", "features", "images", "z")},
            start=next(iter(given.start), None),
            network=params.network,
            model=Model(**params.model),
            settings=Inversion(**params.settings),
            chunk=int(snakemake.wildcards.chunk),
            n_chunks=params.n_chunks,
            output=snakemake.output[0],
        )
