"""Where devices speak MQTT and what becomes of their readings, as a person set it."""

from process_cosmos_gateway.options import DESCRIPTION_TOPICS, Aggregate, BrokerOptions, ReadingOptions, VolumeRule

__all__ = ["DESCRIPTION_TOPICS", "Aggregate", "BrokerOptions", "ReadingOptions", "VolumeRule"]
