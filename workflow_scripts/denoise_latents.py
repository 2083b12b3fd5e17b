"""Noise z and denoise it with c: z_c."""

from nsdldm.features.trajectories import denoise_latents
from nsdldm.support.logs import logged

if __name__ == "__main__":
    network = ("model", "revision", "device", "dtype", "batch_size")
    chain = ("steps", "strength", "guidance", "scheduler", "noise", "seed")
    with logged(snakemake.log[0]):
        denoise_latents(
            images=snakemake.input.images,
            z=snakemake.input.z,
            c=snakemake.input.c,
            zc=snakemake.output[0],
            **{key: snakemake.params[key] for key in network + chain},
        )
