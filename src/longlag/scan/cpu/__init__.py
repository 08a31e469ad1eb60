"""The CPU backend: a small compiler on llvmlite, for the cells of any user."""
