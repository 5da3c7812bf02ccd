"""What is typed and how it is answered: one file a group of commands, imports inside the command.

No logic that another way of asking would need too lives here.
"""
