"""The commands about the installation itself: running it whole or in parts, looking after it, its keys."""
