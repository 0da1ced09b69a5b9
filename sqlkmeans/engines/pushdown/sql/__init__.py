"""What it is asked, as SQL."""
