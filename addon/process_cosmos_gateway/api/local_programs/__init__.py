"""HTTP endpoints for programs on the site's network, and their tokens."""
