"""Turn images and captions into the latents of a Stable Diffusion checkpoint."""
