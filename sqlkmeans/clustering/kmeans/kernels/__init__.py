"""The loops over all rows, in NumPy and as machine code."""
