"""The gateway: its parts, and the whole process."""
