"""What runs on an event loop, and what belongs to one: workers, threads, deadlines, turns."""
