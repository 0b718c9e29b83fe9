"""The features: chat, notifications, the secure namespace and the tutorial's routes."""
