"""The evidence: benchmarks beside peers and the experiments of the papers; only the command line
imports it."""
