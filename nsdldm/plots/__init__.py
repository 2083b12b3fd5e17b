"""Draw the figures of the paper, one module a figure family."""
