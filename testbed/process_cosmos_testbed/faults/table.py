"""All faults by number."""

from . import (
    broker_faults,
    damage_faults,
    disk_faults,
    harmful_reply_faults,
    http_flood_faults,
    identity_faults,
    load_faults,
    mqtt_flood_faults,
    network_faults,
    process_faults,
    reply_faults,
    soak,
    space_faults,
    time_faults,
)
from .fault import Fault

FAULTS = (
    Fault("F1", "kill -9 at random times", process_faults.kill_at_random),
    Fault("F2", "kill -9 at state transitions, twice in a row", process_faults.kill_twice),
    Fault("F3", "frozen, then continued", process_faults.freeze),
    Fault("F4", "power cut: unsynced writes are lost", process_faults.power_cut, disk=True),
    Fault("F5", "power cut: torn, reordered writes", process_faults.torn_power_cut, disk=True),
    Fault("F6", "restart loop during an outage", process_faults.restart_loop),
    Fault("F7", "a newer schema is refused and left alone", process_faults.newer_schema),
    Fault("F8", "writes and syncs that fail", disk_faults.failing_disk, disk=True),
    Fault("F9", "a full disk", disk_faults.full_disk, disk=True),
    Fault("F10", "damaged files", damage_faults.damaged_files, own_site=True),
    Fault("F11", "a read-only disk", disk_faults.read_only, disk=True),
    Fault("F12", "a million events waiting, and ten", load_faults.millions, own_site=True, settings=load_faults.ROOM),
    Fault("F13", "slow, lossy and narrow links", network_faults.links),
    Fault("F14", "outages from 5 minutes to 7 days, compressed", network_faults.outages),
    Fault("F15", "flapping, half-open connections, lost replies", network_faults.flapping),
    Fault("F16", "black hole, RST, no DNS, captive portal, TLS failures", network_faults.strange_ways),
    Fault("F17", "busy and broken receivers, poison, lost confirmations", reply_faults.misbehaving),
    Fault("F18", "a batch accepted in part", reply_faults.in_part),
    Fault("F19", "clocks that jump, readings from the future", time_faults.clock_jumps, own_site=True),
    Fault(
        "F20", "certificates expired, taken back, rotated; a copied gateway", identity_faults.identities, own_site=True
    ),
    Fault("F26", "settings pushed anew, equal and changed", time_faults.pushed_again),
    Fault("F27", "producers faster than the link, a storm of reconnections", load_faults.flood),
    Fault("F28", "a soak: a random mix, a quarter of the time quiet", soak.soak, own_site=True),
    Fault("F29", "connections, bodies and batches by the thousand", http_flood_faults.floods),
    Fault(
        "F30",
        "a login page without html, one event that fails alone, replies not to be stored",
        harmful_reply_faults.one_fails,
    ),
    Fault("F31", "floods of foreign devices", mqtt_flood_faults.floods, own_site=True),
    Fault("F32", "brokers that know less, deny, or forget", broker_faults.other_brokers, own_site=True),
    Fault("F34", "a small disk, deleted files", space_faults.little_space, disk=True),
)
