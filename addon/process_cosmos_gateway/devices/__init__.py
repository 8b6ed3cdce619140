"""Things on the broker: their descriptions, values, device events, and the writes that go down to them."""
