"""What is kept, looked at as a whole: is it what was written, which rows are there, what can go.

No result is made here, and nothing is ever deleted but what a user deleted before.
"""
