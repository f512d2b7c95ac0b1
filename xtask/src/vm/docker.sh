# Read by the guest's init when the command wants Docker: starts the engine that the host has installed, loads the
# images, and says how long that took. Everything that the engine writes is in memory.

seconds() { # since boot, with two digits behind the point
    read -r uptime _ </proc/uptime
    echo "$uptime"
}
since() { $b awk "BEGIN { printf \"%.1f s\", $(seconds) - $1 }"; }
ask() { # PATH [OPTION]...: asks the engine; its own client takes seconds to start in emulation
    path=$1
    shift
    curl --silent --show-error --fail --unix-socket /run/docker.sock "$@" "http://engine$path"
}

start_engine() {
    began=$(seconds)
    attach tmpfs /var/lib/docker
    lay_images || return 1
    # One filter for both ends of the bridge. The engine takes whichever `iptables` is first, and the older one is
    # several times as fast.
    $b mkdir -p $own/programs
    for name in iptables ip6tables; do
        old=$(command -v $name-legacy) && $b ln -s "$old" $own/programs/$name
    done
    # The host's own settings are not for this machine.
    echo '{}' >$own/docker.json
    PATH=$own/programs:$PATH dockerd --config-file $own/docker.json --storage-driver overlay2 >$docker_log 2>&1 9>&- &
    engine=$!
    until [ -S /run/docker.sock ]; do
        [ -e /proc/$engine/fd/0 ] || return 1
        $b sleep 0.1
    done
    # The socket is there before the engine listens on it.
    until version=$(ask /_ping --head 2>/dev/null); do
        [ -e /proc/$engine/fd/0 ] || return 1
        $b sleep 0.1
    done
    version=$(echo "$version" | $b sed -n 's/^Server: *//p' | $b tr -d '\r')
    echo "vm: $version is up after $(since "$began") (overlay2 in memory, cgroups: $CGROUPS)"
}

# Lays down what the engine would have made of the images, had it loaded them: for each its settings, one layer, and
# the layer's files, which stay where they are.
lay_images() {
    images=/var/lib/docker/image/overlay2
    $b mkdir -p $images/imagedb/content/sha256 $images/imagedb/metadata/sha256 $images/layerdb/sha256 \
        /var/lib/docker/overlay2/l
    $b cp $own/repositories.json $images/
    while read -r files config image layer; do
        $b cp "$config" $images/imagedb/content/sha256/$image
        link=$(echo $layer | $b cut -c 1-26 | $b tr a-f A-F)
        $b mkdir -p $images/layerdb/sha256/$layer /var/lib/docker/overlay2/$layer/diff
        printf sha256:$layer >$images/layerdb/sha256/$layer/diff
        printf 0 >$images/layerdb/sha256/$layer/size
        printf $layer >$images/layerdb/sha256/$layer/cache-id
        printf $link >/var/lib/docker/overlay2/$layer/link
        : >/var/lib/docker/overlay2/$layer/committed
        $b ln -s ../$layer/diff /var/lib/docker/overlay2/l/$link
        $b mount --bind "$files" /var/lib/docker/overlay2/$layer/diff || return 1
    done <$own/flat-images
}

# Loads the images that the engine does not have yet: none, unless it keeps them in another way than we think.
load_images() {
    began=$(seconds)
    count=0
    while read -r file name repository tag; do
        ask /images/$name/json >/dev/null 2>&1 && continue
        ask /images/load?quiet=1 --request POST --header 'Content-Type: application/x-tar' --header 'Expect:' \
            --upload-file "$file" >$own/loaded || return 1
        # The engine reports what it cannot read in the body of a good answer.
        if $b grep -q errorDetail $own/loaded; then
            echo "vm: cannot load $file: $($b cat $own/loaded)"
            return 1
        fi
        [ -z "$repository" ] || ask "/images/$name/tag?repo=$repository&tag=$tag" --request POST || return 1
        count=$((count + 1))
    done <$own/images
    [ $count = 0 ] || echo "vm: $count images loaded in $(since "$began")"
}

docker_log=/var/log/dockerd.log
if ! { . $own/environment && start_engine && load_images; } >$own/output 2>&1; then
    $b mv $own/output $own/failure
    {
        echo "vm: Docker's engine does not work:"
        $b cat $own/failure
        echo "vm: its log, if it has begun one:"
        $b grep -v module=grpc $docker_log | $b tail -n 40
    } >$own/output 2>&1
    false
fi
