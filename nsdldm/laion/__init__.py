"""The LAION-fMRI release."""
