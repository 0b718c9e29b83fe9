"""Who is where, and one emission to all of them."""
