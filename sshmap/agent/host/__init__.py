"""What concerns the host itself: setting it up, its peers, its status, the life of its daemon."""
