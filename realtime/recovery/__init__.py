"""Coming back: sessions that outlive their connection, on this instance or another, and what they missed."""
