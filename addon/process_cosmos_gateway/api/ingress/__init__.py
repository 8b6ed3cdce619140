"""Status page of the app, served through Home Assistant's ingress."""
