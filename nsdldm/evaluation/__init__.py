"""How much reconstructions look like what was seen."""
