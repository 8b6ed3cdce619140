"""All faults, in their order."""

from . import process_faults

FAULTS = tuple(sorted((*process_faults.FAULTS,), key=lambda fault: int(fault.name[1:])))
