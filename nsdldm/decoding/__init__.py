"""Ridge decoders: features of images from the responses to them."""
