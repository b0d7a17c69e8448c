"""Tables of records in a terminal."""
