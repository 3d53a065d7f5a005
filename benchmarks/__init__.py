"""What is measured of igpt: its speed beside others', studies of recipes and sizes, records.

A package of its own, so that no other `benchmarks` among the installed ones is taken for it.
"""
