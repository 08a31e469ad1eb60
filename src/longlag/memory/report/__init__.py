"""What is said of the measures: a verdict, advice, figures, one page."""
