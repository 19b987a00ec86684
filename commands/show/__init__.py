"""How records look on the screen and in JSON."""
