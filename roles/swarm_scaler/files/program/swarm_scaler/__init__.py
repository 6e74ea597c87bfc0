"""One step up or down for a service of the swarm, within its bounds."""
