#!/.faultbox-vm/busybox sh
# The first process of a guest. It puts a root file system together, mounts what a Linux machine has mounted, runs
# /.faultbox-vm/command with its output on the port for output, reports its exit status on the port for that, and
# turns the machine off. The kernel's own console only gets what goes wrong here.
own=/.faultbox-vm
b=$own/busybox
. $own/settings          # HOST_ROOT, PROJECT, SHELL, CGROUPS, DOCKER

attach() { # TYPE FOLDER [OPTIONS]
    $b mkdir -p "$2"
    $b mount -t "$1" ${3:+-o "$3"} none "$2" || echo "init: no $1 on $2"
}

mount_cgroups() {
    if [ "$CGROUPS" = unified ]; then
        attach cgroup2 /sys/fs/cgroup
        return
    fi
    # Version 1 with the controllers, version 2 beside it with the processes alone: what systemd calls hybrid.
    attach tmpfs /sys/fs/cgroup mode=755
    for controller in cpuset cpu cpuacct blkio memory devices freezer pids; do
        attach cgroup /sys/fs/cgroup/$controller $controller
    done
    attach cgroup /sys/fs/cgroup/systemd none,name=systemd
    attach cgroup2 /sys/fs/cgroup/unified
}

if [ "$1" != second ]; then
    attach proc /proc
    attach devtmpfs /dev
    $b mkdir -p /new
    if [ "$HOST_ROOT" = 1 ]; then
        # The host's files as they are, below a layer in memory that takes all writes.
        $b mkdir -p /host /layer
        $b mount -t 9p -o trans=virtio,version=9p2000.L,ro,msize=512000,cache=loose host /host || exit 1
        $b mount -t tmpfs -o size=70% none /layer
        $b mkdir -p /layer/upper /layer/work
        $b mount -t overlay -o lowerdir=/host,upperdir=/layer/upper,workdir=/layer/work none /new || exit 1
        $b cp -a $own /new/
    else
        # The files are in memory already. They only get a mount of their own: pivot_root(2) refuses the kernel's first.
        $b mount --bind / /new || exit 1
    fi
    $b mkdir -p /new/proc /new/dev
    $b mount --move /proc /new/proc
    $b mount --move /dev /new/dev
    cd /new || exit 1
    $b mount --move . / || exit 1
    exec $b chroot . $b sh $own/init second
fi

# What is needed from below /tmp or /run is taken aside before a file system in memory covers it.
cd /
number=0
while read -r path; do
    number=$((number + 1))
    $b mkdir -p $own/keep
    if [ -d "$path" ]; then $b mkdir $own/keep/$number; else $b touch $own/keep/$number; fi
    $b mount --bind "$path" $own/keep/$number
done <$own/kept-paths

$b chmod 755 /
attach sysfs /sys
attach tmpfs /run mode=755
attach tmpfs /tmp mode=1777
attach devpts /dev/pts
attach tmpfs /dev/shm mode=1777
mount_cgroups
attach debugfs /sys/kernel/debug
attach tracefs /sys/kernel/tracing
attach securityfs /sys/kernel/security
attach bpf /sys/fs/bpf
[ -e /dev/fd ] || $b ln -s /proc/self/fd /dev/fd

number=0
while read -r path; do
    number=$((number + 1))
    if [ -d $own/keep/$number ]; then
        $b mkdir -p "$path"
    else
        $b mkdir -p "${path%/*}"
        $b touch "$path"
    fi
    $b mount --move $own/keep/$number "$path"
done <$own/kept-paths

$b ip link set lo up
ulimit -Hn 524288
ulimit -Sn 1024
output=/dev/vport0p1
status=/dev/vport0p2
tries=0
while [ ! -e $status ] && [ $tries -lt 200 ]; do
    tries=$((tries + 1))
    $b sleep 0.05
done
[ -e $status ] || { echo "init: this kernel has no driver for virtio ports"; exit 1; }

# The command writes into a pipe, as under any test runner, and not into the port itself: that can be opened only once.
$b mkfifo $own/output
$b cat <$own/output >$output &
reader=$!
exec 9>$own/output        # the reader stays while one writer comes after the other
if [ "$DOCKER" = 0 ] || . $own/docker; then
    (
        . $own/environment
        cd "$PROJECT" || exit 125
        exec $b setsid "$SHELL" $own/command
    ) </dev/null >$own/output 2>&1 9>&-
    code=$?
else
    code=125
fi

exec 9>&-
# Whatever the command left running goes, so that the pipe ends and its last bytes are known to have arrived.
for round in 1 2 3; do
    for process in /proc/[0-9]*; do
        process=${process#/proc/}
        case " 1 $reader " in *" $process "*) ;; *) kill -9 "$process" 2>/dev/null ;; esac
    done
done
tries=0
while [ -e /proc/$reader/fd/0 ] && [ $tries -lt 250 ]; do
    tries=$((tries + 1))
    $b sleep 0.02
done
echo $code >$status
exec $b reboot -nf
