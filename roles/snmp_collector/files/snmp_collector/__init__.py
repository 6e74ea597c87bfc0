"""Asks the nodes of the stack for their figures by SNMP, and writes them to InfluxDB."""
