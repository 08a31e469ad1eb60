"""One gradient method a file."""
