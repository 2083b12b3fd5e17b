"""Make pictures of what one method is given, for one chunk of a subject's test images."""

from nsdldm.diffusion.loading import Model
from nsdldm.diffusion.reconstruction import Reconstruction
from nsdldm.generators.generation import Opening, generate_chunk
from nsdldm.support.logs import logged

if __name__ == "__main__":
    given, params, names = snakemake.input, snakemake.params, snakemake.wildcards
    own = params.generator
    model = Model(**params.model)
    other = model._replace(path=own["path"], revision=own["revision"]) if own["path"] else model
    with logged(snakemake.log[0]):
        generate_chunk(
            method=names.method,
            images=given.images,
            given=dict(zip(params.roles, given.features, strict=True)),
            generator=Opening(own["function"], other, own["settings"]),
            model=model,
            settings=Reconstruction(**params.settings),
            **{key: params[key] for key in ("true", "latent_resolution", "n_chunks")},
            chunk=int(names.chunk),
            output=snakemake.output[0],
        )
