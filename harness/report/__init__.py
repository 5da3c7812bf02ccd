"""What is shown: frames from the store, tables on a terminal, the page. Reads the store only."""
