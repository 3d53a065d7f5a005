"""The commands: a function each, whose signature the parser reads and whose docstring is its help.

Each calls one library function and prints. None imports anything heavy before it runs.
"""
