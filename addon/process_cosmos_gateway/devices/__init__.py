"""Things on the broker: their descriptions, values, device events, and the writes that go down to them."""

from .options import BrokerOptions
from .service import Devices

__all__ = ["BrokerOptions", "Devices"]
