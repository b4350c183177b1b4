"""One file for each revision of the catalogue's tables."""
