"""What logs may show, and how often."""
