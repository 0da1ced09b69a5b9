"""Rows of the scaled space, and the centroids that lie nearest to them."""
