"""Plain facts: what readers give and rules judge."""
