"""What is fixed: benchmarks as TOML, splits, episode digests, published numbers."""
