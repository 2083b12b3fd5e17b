"""Run a latent diffusion model: loading, schedulers, denoising, reconstruction."""
