"""Tools that every room may use: trees, errors at the door, loops, files, and `programs`."""
