"""Decode and explain seen images with a latent diffusion model and the Natural Scenes Dataset."""

__version__ = "0.2.0"
