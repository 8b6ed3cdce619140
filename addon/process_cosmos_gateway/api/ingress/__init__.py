"""The app's web page, served through Home Assistant's ingress."""
