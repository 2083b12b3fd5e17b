"""Keep U-Net activations at steps of the reverse process, for a chunk of the images."""

from nsdldm.diffusion.denoising import Denoising
from nsdldm.diffusion.loading import Model
from nsdldm.features.trajectories import Activations, collect_activations
from nsdldm.support.logs import logged

if __name__ == "__main__":
    given, params = snakemake.input, snakemake.params
    with logged(snakemake.log[0]):
        collect_activations(
            before=dict(zip(params.starts, given.before, strict=True)),
            **{key: given[key] for key in ("images", "c")},
            model=Model(**params.model),
            denoising=Denoising(**params.denoising),
            activations=Activations(**params.activations),
            n_chunks=params.n_chunks,
            chunk=int(snakemake.wildcards.chunk),
            outputs=dict(zip(params.spaces, snakemake.output, strict=True)),
        )
