"""A Supervisor for tests, answering as the real one's source does (home-assistant/supervisor, August 2026)."""
