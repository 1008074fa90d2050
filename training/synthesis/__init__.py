"""Clips of the open head with random people, motions, lights and cameras, and round trips of photos."""
