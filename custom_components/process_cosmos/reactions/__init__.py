"""What keeps reactions of automations fast: fewer state writes, and measured times."""
