"""Clips: how they are read, the encoders that embed them, and the plain baseline."""
