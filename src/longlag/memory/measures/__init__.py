"""What is measured: Jacobians and their products, the error's way, spectra, exponents, pasts."""
