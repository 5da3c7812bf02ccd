#!/usr/bin/env bash
# A real SLURM of one node with two processors on loopback, for tests; needs Debian's slurm-wlm and munge, and root.
#   eval "$(tests/slurm/cluster.sh start)"   starts it and says where it is (SLURM_CONF)
#   tests/slurm/cluster.sh stop              ends it and removes its folder
set -euo pipefail
dir=${FSBENCH_TEST_SLURM_DIR:-/tmp/fsbench-slurm}
host=$(hostname -s)

stop() {
    for name in slurmctld slurmd munged; do
        [ -f "$dir/$name.pid" ] && kill "$(cat "$dir/$name.pid")" 2>/dev/null || true
    done
    for _ in $(seq 50); do
        pids=$(cat "$dir"/*.pid 2>/dev/null || true)
        # shellcheck disable=SC2086
        [ -z "$pids" ] || ! kill -0 $pids 2>/dev/null && break
        sleep 0.1
    done
    rm -rf "$dir"
}

start() {
    stop
    mkdir -p "$dir"/{state,spool}
    dd if=/dev/urandom of="$dir/munge.key" bs=128 count=1 status=none
    chmod 0600 "$dir/munge.key"
    munged --force --key-file="$dir/munge.key" --socket="$dir/munge.socket" --pid-file="$dir/munged.pid" \
        --log-file="$dir/munged.log" --seed-file="$dir/munge.seed" >"$dir/munged.start" 2>&1
    cat >"$dir/slurm.conf" <<EOF
ClusterName=fsbench
SlurmctldHost=$host(127.0.0.1)
SlurmUser=root
SlurmctldPort=26817
SlurmdPort=26818
AuthType=auth/munge
AuthInfo=socket=$dir/munge.socket,cred_expire=5
CredType=cred/munge
StateSaveLocation=$dir/state
SlurmdSpoolDir=$dir/spool
SlurmctldPidFile=$dir/slurmctld.pid
SlurmdPidFile=$dir/slurmd.pid
SlurmctldLogFile=$dir/slurmctld.log
SlurmdLogFile=$dir/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
JobCompType=jobcomp/none
MaxArraySize=4
MpiDefault=none
ReturnToService=2
SchedulerParameters=batch_sched_delay=0,sched_interval=2,bf_interval=2
KillWait=5
InactiveLimit=0
SlurmdParameters=config_overrides
NodeName=$host NodeAddr=127.0.0.1 CPUs=2 State=UNKNOWN
PartitionName=main Nodes=$host Default=YES MaxTime=60 State=UP
EOF
    export SLURM_CONF="$dir/slurm.conf"
    slurmctld >"$dir/start.log" 2>&1
    slurmd >>"$dir/start.log" 2>&1
    for _ in $(seq 100); do
        [ "$(sinfo --noheader --format=%T 2>/dev/null)" = idle ] && break
        sleep 0.2
    done
    if [ "$(sinfo --noheader --format=%T)" != idle ]; then
        cat "$dir"/slurm*.log >&2
        echo "the node did not come up" >&2
        exit 1
    fi
    echo "export SLURM_CONF=$dir/slurm.conf"
}

case "${1:-}" in
start) start ;;
stop) stop ;;
*) echo "usage: $0 start|stop" >&2 && exit 2 ;;
esac
