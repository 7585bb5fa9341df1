"""A PyTorch engine behind the Tinker REST protocol: tokens and weights, nothing of what they are for."""

__version__ = "0.1.0"
