"""Models from elsewhere: what a file says of its network, and a package made of it."""
