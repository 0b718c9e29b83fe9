"""Pure: what is kept of what was said, in which order it comes, what is owed and what is missing, who may come back."""
