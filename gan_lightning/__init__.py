"""Generative Adversarial Nets (Goodfellow et al., 2014), trained with PyTorch Lightning."""

__version__ = "0.1.0"
