"""The built-in methods, one file a family; each imports harness.api only."""
