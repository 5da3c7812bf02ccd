"""Results between labs: archives of runs, and predictions made elsewhere.

What comes in is checked here; what is shown of it is not decided here.
"""
