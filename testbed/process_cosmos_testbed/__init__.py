"""The testbed: virtual devices, proxies that inject faults, sites of real processes, and a ledger to judge them by.

For example::

    async with LeakSensor(broker, "leak-kitchen") as sensor, Valve(broker, "valve-main") as valve:
        await sensor.set(True)                      # returns when the broker has acknowledged
        await valve.until(lambda: valve.commands)   # [Command(at=…, value=False)]

    async with FaultProxy("127.0.0.1", 1883) as proxy:   # devices or the gateway connect to proxy.port
        proxy.blackhole()
        proxy.heal()
        assert proxy.counts.swallowed_bytes

From a shell: ``process-cosmos-testbed --help``.
"""
