"""The broker and reading options, under the names that the devices package uses."""

from process_cosmos_gateway.options import DESCRIPTION_TOPICS, Aggregate, BrokerOptions, ReadingOptions, VolumeRule

__all__ = ["DESCRIPTION_TOPICS", "Aggregate", "BrokerOptions", "ReadingOptions", "VolumeRule"]
