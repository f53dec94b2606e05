#!/usr/bin/env bash
# Brings up a private SLURM cluster on the loopback interface, for tests.
#
#   up.sh STATE_DIR          (or SLURMLAB_DIR=STATE_DIR up.sh)
#   . STATE_DIR/env.sh       then sbatch, srun, squeue, sacct, submitit ... work
#   down.sh STATE_DIR        takes it down again
#
# One controller, one or more slurmd (each a "node" of its own on this host),
# optional accounting (slurmdbd + a private MariaDB), fake GPUs.  Needs root and
# Debian's packages; no systemd, no cgroups, no network but 127.0.0.1.
# Everything it writes lies under STATE_DIR: nothing in /etc or /var is touched,
# apart from the packages it installs when they are missing.
# Safe to repeat: what already runs with the same settings is left running; when the
# settings changed, the SLURM daemons are restarted with the new ones.
#
# Settings (environment variables):
#   SLURMLAB_NODES    number of slurmd nodes, n1..nN              (1)
#   SLURMLAB_CPUS     CPUs that each node claims to have          (number of cores here)
#   SLURMLAB_MEM_MB   memory that each node claims to have        (4096)
#   SLURMLAB_GPUS     fake GPUs per node, 0 for none              (2)
#   SLURMLAB_ACCT     1: slurmdbd + MariaDB, so that sacct works  (1)
#                     0: none; sacct then fails
#   SLURMLAB_SIGNAL   1: a preempted job gets its --signal first  (1)
#                     0: only SIGCONT and SIGTERM, as on many clusters
#   SLURMLAB_PORT     first of the loopback ports used; clusters  (27817)
#                     side by side: 50 apart, or more with many nodes
#   SLURMLAB_INSTALL  1: apt-get install what is missing          (1)
set -euo pipefail

DIR=${1:-${SLURMLAB_DIR:-}}
[ -n "$DIR" ] || { echo "usage: $0 STATE_DIR" >&2; exit 2; }
[ "$(id -u)" = 0 ] || { echo "$0: needs root" >&2; exit 2; }
NODES=${SLURMLAB_NODES:-1}
CPUS=${SLURMLAB_CPUS:-$(nproc)}
MEM_MB=${SLURMLAB_MEM_MB:-4096}
GPUS=${SLURMLAB_GPUS:-2}
ACCT=${SLURMLAB_ACCT:-1}
SIGNAL=${SLURMLAB_SIGNAL:-1}
PORT=${SLURMLAB_PORT:-27817}
INSTALL=${SLURMLAB_INSTALL:-1}
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

# One up.sh or down.sh at a time per state directory (-o: the daemons do not inherit it).
if [ -z "${SLURMLAB_LOCKED:-}" ]; then
    mkdir -p "$DIR"
    SLURMLAB_LOCKED=1 exec flock -o "$DIR/.lock" bash "${BASH_SOURCE[0]}" "$DIR"
fi
unset SLURMLAB_LOCKED

DBD_PORT=$((PORT + 1)); SQL_PORT=$((PORT + 2)); NODE_PORT=$((PORT + 10))
export PATH=$PATH:/usr/sbin:/sbin

log() { printf 'slurmlab: %s\n' "$*" >&2; }
die() { log "$*"; exit 1; }

# wait_for SECONDS COMMAND...: repeat the command until it succeeds
wait_for() {
    local end=$(($(date +%s) + $1)); shift
    until "$@" >/dev/null 2>&1; do
        [ "$(date +%s)" -lt "$end" ] || return 1
        sleep 0.1
    done
}

# alive PIDFILE PROGRAM: true when the file names a living process of that program
alive() {
    local pid
    pid=$(cat "$1" 2>/dev/null) && [ -n "$pid" ] || return 1
    case $(basename "$(readlink "/proc/$pid/exe" 2>/dev/null)" 2>/dev/null) in
        "$2"*) return 0 ;;
    esac
    return 1
}

port_open() { (exec 3<>"/dev/tcp/$ADDR/$1") 2>/dev/null; }

# ---- packages -------------------------------------------------------------------------
want=(slurmctld slurmd slurm-client slurm-wlm-basic-plugins munge)
# The -core packages hold all that a private MariaDB needs; mariadb-server would add
# perl, rsync, socat, galera and a system data directory.
if [ "$ACCT" = 1 ]; then want+=(slurmdbd mariadb-server-core mariadb-client-core); fi
missing=()
for p in "${want[@]}"; do
    case $(dpkg-query -W -f '${Status}' "$p" 2>/dev/null) in *" installed") ;; *) missing+=("$p") ;; esac
done
if [ ${#missing[@]} -gt 0 ]; then
    [ "$INSTALL" = 1 ] || die "missing packages: ${missing[*]}"
    log "installing ${missing[*]}"
    export DEBIAN_FRONTEND=noninteractive
    apt=(apt-get -qq -o DPkg::Lock::Timeout=300)
    # Services must not start by themselves: a policy that says so, for this install only.
    policy=/usr/sbin/policy-rc.d; made_policy=0
    if [ ! -e $policy ]; then printf '#!/bin/sh\nexit 101\n' >$policy; chmod 755 $policy; made_policy=1; fi
    ok=1
    { "${apt[@]}" update && "${apt[@]}" install -y --no-install-recommends "${missing[@]}"; } >/dev/null || ok=0
    if [ $made_policy = 1 ]; then rm -f $policy; fi
    [ $ok = 1 ] || die "apt-get failed"
fi

# ---- state directory ------------------------------------------------------------------
mkdir -p "$DIR"; DIR=$(cd "$DIR" && pwd)
[ ${#DIR} -le 70 ] || die "STATE_DIR is too long for unix sockets (70 characters at most): $DIR"
case $DIR in *[[:space:]]*) die "STATE_DIR must not contain spaces: $DIR" ;; esac
mkdir -p "$DIR"/{etc,log,run,ctld,spool,dev}
chmod 755 "$DIR" "$DIR"/{etc,log,run,dev}; chmod 700 "$DIR/ctld"
HOST=$(hostname -s)
# SLURM binds either to all addresses or to the one that this host's name has.  Take the
# latter when that is a loopback address, as /etc/hosts usually has it.
ADDR=$(getent ahostsv4 "$HOST" | awk '{ print $1; exit }') || true
case $ADDR in
    127.*) bind='CommunicationParameters=NoInAddrAny,NoCtldInAddrAny' dbd_bind='CommunicationParameters=NoInAddrAny' ;;
    *) ADDR=127.0.0.1 bind='' dbd_bind='' ;;
esac

# ---- configuration --------------------------------------------------------------------
new=$(mktemp -d "$DIR/etc.XXXXXX"); trap 'rm -rf "$new"' EXIT

ctld_params=''
if [ "$SIGNAL" = 1 ]; then ctld_params='SlurmctldParameters=preempt_send_user_signal'; fi
# Limits of a user are enforced by accounting only.
few=''; if [ "$ACCT" = 1 ]; then few='PartitionName=few PriorityTier=10 PreemptMode=OFF QOS=few'; fi
gres_types='' node_gres=''
if [ "$GPUS" -gt 0 ]; then gres_types='GresTypes=gpu' node_gres="Gres=gpu:$GPUS"; fi
if [ "$ACCT" = 1 ]; then
    acct="AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=$ADDR
AccountingStoragePort=$DBD_PORT
# With auth/munge this 'password' is the socket that slurmdbd's clients use.
AccountingStoragePass=$DIR/run/munge.socket
AccountingStorageEnforce=limits,qos
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=5"
    if [ "$GPUS" -gt 0 ]; then acct+=$'\nAccountingStorageTRES=gres/gpu'; fi
else
    acct="AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none"
fi

cat >"$new/slurm.conf" <<CONF
# Written by slurmlab's up.sh; edits are lost.
ClusterName=slurmlab
SlurmctldHost=$HOST($ADDR)
SlurmctldPort=$PORT
SlurmUser=root
$bind
AuthType=auth/munge
CredType=cred/munge
# cred_expire is also how long a requeued job is held back (default: 120 s).
AuthInfo=socket=$DIR/run/munge.socket,cred_expire=5

StateSaveLocation=$DIR/ctld
SlurmdSpoolDir=$DIR/spool/%n
SlurmctldPidFile=$DIR/run/slurmctld.pid
SlurmdPidFile=$DIR/run/slurmd.%n.pid
SlurmctldLogFile=$DIR/log/slurmctld.log
SlurmdLogFile=$DIR/log/slurmd.%n.log
SlurmctldDebug=info
SlurmdDebug=info

# No cgroups: jobs are tracked by process tree (a process that double-forks escapes).
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
ReturnToService=2
# Believe the sizes below, whatever this host has.
SlurmdParameters=config_overrides

SchedulerType=sched/backfill
# Start jobs at once (defaults: up to 3 s for a batch job, 30 s for the backfill pass).
SchedulerParameters=batch_sched_delay=0,sched_interval=2,bf_interval=2
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
DefMemPerCPU=512
MaxArraySize=10001
MaxJobCount=20000
MinJobAge=600
KillWait=5
InactiveLimit=0
# A job in 'low' is requeued when one in 'main' needs its place: a signal, then the end
# GraceTime seconds (and KillWait) later.
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
# Refuse at once what no partition could ever run (default: let it wait for ever).
EnforcePartLimits=ANY
$ctld_params

$acct

$gres_types
NodeName=DEFAULT CPUs=$CPUS RealMemory=$MEM_MB $node_gres State=UNKNOWN
$(for i in $(seq "$NODES"); do
    echo "NodeName=n$i NodeHostname=$HOST NodeAddr=$ADDR Port=$((NODE_PORT + i))"
done)
PartitionName=DEFAULT Nodes=ALL MaxTime=INFINITE DefaultTime=60 State=UP
PartitionName=main Default=YES PriorityTier=10 PreemptMode=OFF
PartitionName=low PriorityTier=1 PreemptMode=REQUEUE GraceTime=10
$few
CONF

if [ "$GPUS" -gt 0 ]; then
    # A GPU's file must be a character device, if not one of its own: without cgroups
    # nothing opens it.  Its place in the list is the index in CUDA_VISIBLE_DEVICES.
    for i in $(seq 0 $((GPUS - 1))); do ln -sfn /dev/null "$DIR/dev/gpu$i"; done
    last=$((GPUS - 1)); [ $last = 0 ] && range=0 || range="[0-$last]"
    echo "AutoDetect=off" >"$new/gres.conf"
    for i in $(seq "$NODES"); do
        echo "NodeName=n$i Name=gpu File=$DIR/dev/gpu$range" >>"$new/gres.conf"
    done
fi
# Without this file slurmd looks at the host's cgroups when it starts.
echo 'CgroupAutomount=no' >"$new/cgroup.conf"

if [ "$ACCT" = 1 ]; then
    cat >"$new/slurmdbd.conf" <<CONF
# Written by slurmlab's up.sh; edits are lost.
AuthType=auth/munge
AuthInfo=socket=$DIR/run/munge.socket
DbdHost=localhost
DbdAddr=$ADDR
DbdPort=$DBD_PORT
$dbd_bind
SlurmUser=root
PidFile=$DIR/run/slurmdbd.pid
LogFile=$DIR/log/slurmdbd.log
DebugLevel=info
StorageType=accounting_storage/mysql
StorageHost=127.0.0.1
StoragePort=$SQL_PORT
StorageUser=slurm
StoragePass=slurm
StorageLoc=slurm_acct
CONF
    chmod 600 "$new/slurmdbd.conf"
fi

# Settings changed while running: stop, then start with the new ones.
if [ -e "$DIR/etc/slurm.conf" ] && ! diff -rq "$new" "$DIR/etc" >/dev/null; then
    log "settings changed: restarting"
    SLURMLAB_LOCKED=1 bash "$HERE/down.sh" "$DIR"
fi
rm -rf "$DIR/etc"; mv "$new" "$DIR/etc"; chmod 755 "$DIR/etc"; trap - EXIT

cat >"$DIR/env.sh" <<ENV
# Source this to use the cluster of slurmlab's up.sh.
export SLURM_CONF='$DIR/etc/slurm.conf'
export MUNGE_SOCKET='$DIR/run/munge.socket'   # for the tests' own calls of munge -S
ENV
export SLURM_CONF="$DIR/etc/slurm.conf"

# free_port PIDFILE PROGRAM PORT: when the program is to be started, its port must be free
free_port() {
    if ! alive "$DIR/run/$1.pid" "$2" && port_open "$3"; then
        die "port $3 is in use: set SLURMLAB_PORT"
    fi
}
free_port slurmctld slurmctld "$PORT"
if [ "$ACCT" = 1 ]; then free_port slurmdbd slurmdbd "$DBD_PORT"; free_port mariadbd mariadbd "$SQL_PORT"; fi
for i in $(seq "$NODES"); do free_port "slurmd.n$i" slurmd $((NODE_PORT + i)); done

# ---- munge ----------------------------------------------------------------------------
if ! alive "$DIR/run/munged.pid" munged; then
    if [ ! -s "$DIR/munge.key" ]; then
        (umask 077; dd if=/dev/urandom of="$DIR/munge.key" bs=128 count=1 status=none)
    fi
    # --force: the state directory may lie under a folder others can write to.
    munged --force --num-threads=4 --key-file="$DIR/munge.key" --socket="$DIR/run/munge.socket" \
        --pid-file="$DIR/run/munged.pid" --log-file="$DIR/log/munged.log" \
        --seed-file="$DIR/run/munged.seed" 2>>"$DIR/log/munged.err" || die "munged failed, see $DIR/log"
fi
wait_for 10 munge -n -S "$DIR/run/munge.socket" || die "munged does not answer, see $DIR/log/munged.log"

# ---- accounting -----------------------------------------------------------------------
if [ "$ACCT" = 1 ]; then
    # A test's accounting need not survive a power cut; making the tables is mostly flushes.
    nosync=(--debug-no-sync --sync-frm=OFF --innodb-flush-log-at-trx-commit=0 --innodb-flush-method=nosync)
    sql=(mariadb --no-defaults --protocol=socket -S "$DIR/run/mysql.socket" -u root)
    if ! alive "$DIR/run/mariadbd.pid" mariadbd; then
        if [ ! -d "$DIR/mysql/mysql" ]; then
            rm -rf "$DIR/mysql"; mkdir -p "$DIR/mysql"
            mariadb-install-db --no-defaults --user=root --datadir="$DIR/mysql" --skip-test-db \
                "${nosync[@]}" --auth-root-authentication-method=normal >"$DIR/log/mariadb-install.log" 2>&1 ||
                die "mariadb-install-db failed, see $DIR/log"
        fi
        setsid mariadbd --no-defaults --user=root --datadir="$DIR/mysql" --socket="$DIR/run/mysql.socket" \
            --bind-address=127.0.0.1 --port="$SQL_PORT" --pid-file="$DIR/run/mariadbd.pid" \
            --skip-name-resolve --skip-log-bin --innodb-buffer-pool-size=64M --innodb-lock-wait-timeout=900 \
            --performance-schema=off "${nosync[@]}" \
            </dev/null >>"$DIR/log/mariadbd.log" 2>&1 &
    fi
    wait_for 30 "${sql[@]}" -e 'select 1' || die "mariadbd does not answer, see $DIR/log/mariadbd.log"
    "${sql[@]}" -e "create database if not exists slurm_acct;
        create user if not exists 'slurm'@'127.0.0.1' identified by 'slurm';
        grant all on slurm_acct.* to 'slurm'@'127.0.0.1';"
    if ! alive "$DIR/run/slurmdbd.pid" slurmdbd; then
        slurmdbd || die "slurmdbd failed, see $DIR/log/slurmdbd.log"
    fi
    wait_for 60 port_open "$DBD_PORT" || die "slurmdbd does not listen, see $DIR/log/slurmdbd.log"
    if [ -z "$(sacctmgr -nP show cluster slurmlab format=cluster 2>/dev/null)" ]; then
        { sacctmgr -iQ add cluster slurmlab && sacctmgr -iQ add account lab && sacctmgr -iQ add user root account=lab &&
            sacctmgr -iQ add qos few set MaxSubmitJobsPerUser=2; } >/dev/null || die "sacctmgr add failed"
    fi
fi

# ---- slurmctld and slurmd -------------------------------------------------------------
if ! alive "$DIR/run/slurmctld.pid" slurmctld; then
    slurmctld -f "$SLURM_CONF" || die "slurmctld failed, see $DIR/log/slurmctld.log"
fi
for i in $(seq "$NODES"); do
    if ! alive "$DIR/run/slurmd.n$i.pid" slurmd; then
        slurmd -N "n$i" -f "$SLURM_CONF" || die "slurmd n$i failed, see $DIR/log/slurmd.n$i.log"
    fi
done

up_nodes() { [ "$(sinfo -hN -p main -t idle,mixed,allocated,completing -o %N | sort -u | wc -l)" = "$NODES" ]; }
if ! wait_for 30 up_nodes; then
    # A node that was down by hand, or went away in an earlier life.
    scontrol update nodename="$(scontrol -o show nodes | sed -n 's/^NodeName=\([^ ]*\).*/\1/p' | paste -sd,)" state=resume 2>/dev/null || true
    wait_for 15 up_nodes || { sinfo -N -l >&2; die "nodes do not come up, see $DIR/log"; }
fi
log "up: $NODES node(s) x $CPUS CPUs, $GPUS GPUs; now: . $DIR/env.sh"
