"""Executes, checks, builds and prints the book. No notebook imports it, and it needs no torch."""
