"""Read the Natural Scenes Dataset straight from the files and conventions of its release."""
