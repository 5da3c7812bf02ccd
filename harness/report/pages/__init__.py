"""One file a kind of page: its data as dataclasses, and the pictures on it.

Numbers are made in board; a page only chooses and arranges them.
"""
