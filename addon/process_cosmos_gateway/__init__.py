"""The gateway of Process Cosmos: the service inside the app."""
