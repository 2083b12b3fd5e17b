"""Keep latents and U-Net activations along the reverse process, for a chunk of the images."""

from nsdldm.diffusion.denoising import Denoising
from nsdldm.diffusion.loading import Model
from nsdldm.features.trajectories import Trajectories, collect_trajectories
from nsdldm.support.logs import logged

if __name__ == "__main__":
    given, params = snakemake.input, snakemake.params
    with logged(snakemake.log[0]):
        collect_trajectories(
            **{key: given[key] for key in ("images", "z", "c")},
            model=Model(**params.model),
            denoising=Denoising(**params.denoising),
            trajectories=Trajectories(**params.trajectories),
            **{key: params[key] for key in ("text", "n_chunks")},
            chunk=int(snakemake.wildcards.chunk),
            outputs=dict(zip(params.spaces, snakemake.output, strict=True)),
        )
