"""Pages to play with: one HTML file each, which opens from disk and needs no network."""
