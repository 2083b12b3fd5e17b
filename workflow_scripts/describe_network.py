"""Tabulate the layers of a network that are compared."""

from nsdldm.features.insides import describe_network
from nsdldm.features.sources import Source
from nsdldm.support.logs import logged

if __name__ == "__main__":
    params = snakemake.params
    with logged(snakemake.log[0]):
        describe_network(source=Source(**params.source), **params.kept, output=snakemake.output[0])
