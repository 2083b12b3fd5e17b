"""Feature spaces of images: z, c, z_c, activations of the U-Net and of other networks."""
