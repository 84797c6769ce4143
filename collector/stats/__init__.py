"""Pure mathematics: no clock, no socket, no randomness."""
