"""All faults by number."""

from itertools import chain

from .broker_faults import FAULTS as BROKER
from .damage_faults import FAULTS as DAMAGE
from .disk_faults import FAULTS as DISK
from .harmful_reply_faults import FAULTS as HOSTILE
from .http_flood_faults import FAULTS as FLOOD
from .identity_faults import FAULTS as IDENTITY
from .load_faults import FAULTS as LOAD
from .mqtt_flood_faults import FAULTS as DEVICE
from .network_faults import FAULTS as NETWORK
from .process_faults import FAULTS as PROCESS
from .reply_faults import FAULTS as REPLY
from .soak import FAULTS as SOAK
from .space_faults import FAULTS as SPACE
from .time_faults import FAULTS as TIME

_ALL = chain(PROCESS, DISK, DAMAGE, NETWORK, REPLY, TIME, IDENTITY, LOAD, SOAK, FLOOD, HOSTILE, DEVICE, BROKER, SPACE)

FAULTS = tuple(sorted(_ALL, key=lambda fault: int(fault.name[1:])))
