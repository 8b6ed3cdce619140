"""A real Home Assistant: its configuration folder, its onboarding, and a client of its API."""
