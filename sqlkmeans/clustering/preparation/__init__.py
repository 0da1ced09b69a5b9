"""Raw rows, and the scaled space that distances are measured in."""
