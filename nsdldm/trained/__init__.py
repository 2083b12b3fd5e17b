"""Decoders that are trained: masked autoencoders of responses that condition a diffusion model."""
