"""Voxel-wise encoding models: fits, and what is judged by their predictions."""
