"""From a fitted method to counts: features, predictions, counting, and what is saved of an unfinished evaluation.

No training, no database and no page.
"""
