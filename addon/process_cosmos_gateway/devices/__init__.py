"""Things on the broker: their descriptions, values, device events, and the writes that go down to them."""

from .descriptions import NEW_A_MINUTE
from .options import BrokerOptions
from .service import Devices

__all__ = ["NEW_A_MINUTE", "BrokerOptions", "Devices"]
