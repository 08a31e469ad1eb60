"""longlag."""
