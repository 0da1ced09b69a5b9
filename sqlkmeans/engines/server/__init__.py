"""The server does the whole run by itself."""
