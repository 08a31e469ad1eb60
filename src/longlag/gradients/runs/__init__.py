"""Forward and backward passes over sequences that keep what the gradient methods look at."""
