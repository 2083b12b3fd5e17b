"""Keep latents and U-Net activations along the reverse process, for a chunk of the images."""

from nsdldm.features.activations import collect_trajectories
from nsdldm.support.logs import logged

if __name__ == "__main__":
    given, params = snakemake.input, snakemake.params
    with logged(snakemake.log[0]):
        collect_trajectories(
            chunk=int(snakemake.wildcards.chunk),
            outputs=dict(zip(params.spaces, snakemake.output, strict=True)),
            **{key: given[key] for key in ("images", "z", "c")},
            **{key: value for key, value in params.items() if key not in ("spaces", "code")},
        )
