"""What the pages, the exports and the terminal say: rows, tables, pairs, published values.

Nothing is rendered here.
"""
