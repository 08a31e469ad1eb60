"""Keras on PyTorch, whatever the user's own configuration says."""

import os

os.environ["KERAS_BACKEND"] = "torch"
