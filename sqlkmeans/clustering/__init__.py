"""Arrays in, arrays out. Imports numpy, pandas and scikit-learn, and nothing of the database."""
