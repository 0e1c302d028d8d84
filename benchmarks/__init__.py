"""Side-by-side measurements; each writes its JSON here and its table and figure for the book."""
