"""Several instances as one: the log they share, the way out of what is said here, the way in from elsewhere."""
