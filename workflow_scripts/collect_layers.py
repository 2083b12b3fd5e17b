"""Keep activations at the layers of a network, for a chunk of the images."""

from nsdldm.features.insides import collect_layers
from nsdldm.features.sources import Source
from nsdldm.support.logs import logged

if __name__ == "__main__":
    given, params = snakemake.input, snakemake.params
    with logged(snakemake.log[0]):
        collect_layers(
            **{key: given[key] for key in ("images", "stimuli")},
            source=Source(**params.source),
            **params.kept,
            **{key: params[key] for key in ("device", "batch_size", "n_chunks")},
            chunk=int(snakemake.wildcards.chunk),
            output=snakemake.output[0],
        )
