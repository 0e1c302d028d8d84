"""Scripts that make assets or answer side questions of the chapters."""
