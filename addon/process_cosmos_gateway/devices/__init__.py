"""MQTT devices: their Thing Descriptions, values and events, and the property writes sent to them."""

from .service import Devices
from .things.description_intake import NEW_A_MINUTE

__all__ = ["NEW_A_MINUTE", "Devices"]
