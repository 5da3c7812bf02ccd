"""From base images to a fitted method on disk, in one process or several.

Novel images stay closed here, and nothing is evaluated but validation episodes.
"""
