"""What is asked of the machine: folders, whole files, locks, progress, process settings, provenance.

Nothing here knows images, methods or runs.
"""
