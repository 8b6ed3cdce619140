"""What the tests of several folders use: brokers, hostile inputs, a fake Supervisor, waiting."""
