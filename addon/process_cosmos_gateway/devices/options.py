"""Where devices speak MQTT, as a person set it."""

from process_cosmos_gateway.options import DESCRIPTION_TOPICS, BrokerOptions

__all__ = ["DESCRIPTION_TOPICS", "BrokerOptions"]
