"""What a node says about itself: log lines now, control-side metrics later."""
