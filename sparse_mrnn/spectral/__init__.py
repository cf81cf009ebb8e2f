"""Spectral radius, abscissa and leading eigenpairs of sparse weights: certified, or a clear error."""

from sparse_mrnn.spectral.api import (
    disc_radius,
    leading_eigenpairs,
    spectral_abscissa,
    spectral_radius,
    spectral_search,
)
from sparse_mrnn.spectral.differentiable import differentiable_spectral_radius
from sparse_mrnn.spectral.result import SpectralResult

__all__ = [
    "SpectralResult", "differentiable_spectral_radius", "disc_radius", "leading_eigenpairs",
    "spectral_abscissa", "spectral_radius", "spectral_search",
]
