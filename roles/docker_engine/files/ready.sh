#!/bin/sh
# Succeeds when this engine is in no swarm, or back in it with its tasks; says otherwise what is missing.
set -eu

look() {
  state=$(docker info --format '{{.Swarm.LocalNodeState}} {{.Swarm.ControlAvailable}}')
  case $state in
    inactive*) exit 0 ;;
    # A worker that is active has a manager that knows it, but can't ask what the managers see.
    "active false") return ;;
    "active true") ;;
    *)
      echo "this node's state in the swarm is '$state', not active"
      exit 1
      ;;
  esac
  node=$(docker node inspect self --format '{{.Status.State}} {{.ManagerStatus.Reachability}}')
  if [ "$node" != "ready reachable" ]; then
    echo "the managers see this node as '$node', not ready and reachable"
    exit 1
  fi
  late=$(docker node ps self --format '{{.DesiredState}} {{.Name}}: {{.CurrentState}}' |
    sed -n -e '/: Running /d' -e 's/^\(Ready\|Running\) //p')
  if [ -n "$late" ]; then
    echo "tasks of this node don't run yet: $late"
    exit 1
  fi
}

# Twice: right after a start the managers still believe what was before.
look
sleep 5
look
