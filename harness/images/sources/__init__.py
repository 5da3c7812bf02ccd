"""One file a source: where its pictures, classes and official splits are, whatever form they come in.

A source only lists and decodes; squares, maps and digests are made one room up, in images.
"""
