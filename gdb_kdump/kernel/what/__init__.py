"""What an address is, and who owns it: memory first, then the objects that pointers lead to from known roots."""
