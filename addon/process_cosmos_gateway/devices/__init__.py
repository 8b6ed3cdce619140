"""Things on the broker: their descriptions, values, device events, and the writes that go down to them."""

from .options import BrokerOptions
from .service import Devices
from .things.description_intake import NEW_A_MINUTE

__all__ = ["NEW_A_MINUTE", "BrokerOptions", "Devices"]
