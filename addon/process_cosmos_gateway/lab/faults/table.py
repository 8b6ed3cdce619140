"""All faults, in their order."""

from itertools import chain

from . import disk_faults, identity_faults, load_faults, network_faults, process_faults, reply_faults, soak, time_faults

_PARTS = (process_faults, disk_faults, network_faults, reply_faults, time_faults, identity_faults, load_faults, soak)

FAULTS = tuple(sorted(chain.from_iterable(part.FAULTS for part in _PARTS), key=lambda fault: int(fault.name[1:])))
