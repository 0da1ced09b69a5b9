"""The rows come to this process."""
