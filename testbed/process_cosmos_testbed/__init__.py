"""The lab: virtual devices, and a proxy that makes faults. A product feature, and the tests' tool.

From Python::

    async with LeakSensor(broker, "leak-kitchen") as sensor, Valve(broker, "valve-main") as valve:
        await sensor.set(True)                      # returns when the broker has it
        await valve.until(lambda: valve.commands)   # [Command(at=…, value=False)]

    async with FaultProxy("127.0.0.1", 1883) as proxy:   # devices or the gateway connect to proxy.port
        proxy.blackhole()
        proxy.heal()
        assert proxy.counts.swallowed_bytes

From a shell: ``python -m process_cosmos_testbed --help``.
"""
