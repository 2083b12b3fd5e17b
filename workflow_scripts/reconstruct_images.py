"""Make pictures from one subject's decoded features, for one chunk of the test images."""

from nsdldm.diffusion.loading import Model
from nsdldm.diffusion.reconstruction import Reconstruction, reconstruct_chunk
from nsdldm.support.logs import logged

if __name__ == "__main__":
    given, params, names = snakemake.input, snakemake.params, snakemake.wildcards
    with logged(snakemake.log[0]):
        reconstruct_chunk(
            method=names.method,
            **{key: given.get(key) or None for key in ("images", "z", "c")},
            model=Model(**params.model),
            settings=Reconstruction(**params.settings),
            **{key: params[key] for key in ("latent_resolution", "n_chunks")},
            chunk=int(names.chunk),
            true=params.true,
            output=snakemake.output[0],
        )
