"""What one stream carries when the two nodes are far apart. See bench/README.md."""
