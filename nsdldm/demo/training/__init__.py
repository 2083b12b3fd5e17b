"""Train the small latent diffusion model that ships with the project, from nothing."""
