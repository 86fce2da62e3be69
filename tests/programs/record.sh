#!/bin/bash
# Makes the recordings of this folder anew, all or those named: tests/programs/record.sh [NAME...]
#
# It needs root, Debian 12 with the programs below, and HIGHWATER, a highwater that was built. It works in /srv/app, so that no
# path of this machine is in a recording. After it: HIGHWATER_WRITE_SCREENS=1 cargo test -p highwater-tests --test programs
set -u
here=$(cd "$(dirname "$0")" && pwd)
highwater=${HIGHWATER:-$here/../../target/debug/highwater}
out=${OUT:-$here}
app=/srv/app
rm -rf "$app"
mkdir -p "$app" && cp "$here"/app/* "$app" && cd "$app" || exit 1
export RUSTUP_HOME=${RUSTUP_HOME:-$HOME/.rustup}
export PATH=/usr/sbin:/usr/bin:/sbin:/bin:$PATH HOME=$app LC_ALL=C.UTF-8
cp "$highwater" "$app/highwater" && highwater=./highwater
# A control group of its own, so that this machine's is not in them either.
group=/sys/fs/cgroup
[ -d $group/memory ] && group=$group/memory
mkdir -p $group/app && echo $$ >$group/app/cgroup.procs

python3 - <<'P'
import json, random
random.seed(1)
row = lambda i: {"id": i, "name": f"n{i}", "tags": [str(j) for j in range(8)], "v": random.random()}
json.dump([row(i) for i in range(20000)], open("orders.json", "w"))
rows = "".join(f"{i},{i * 1.5},name{i % 1000},{i % 7}\n" for i in range(100000))
open("orders.csv", "w").write("a,b,c,d\n" + rows)
items = "".join(f'<e id="{i}"><n>name{i}</n><v>{i}</v></e>' for i in range(50000))
open("orders.xml", "w").write(f"<r>{items}</r>")
open("words.txt", "w").write("".join(f"{random.random()}\n" for i in range(200000)))
P
wanted=" $* "
is_wanted() { [ "$wanted" = "  " ] || [[ $wanted == *" $1 "* ]]; }

# launch NAME COMMAND...
launch() {
    local name=$1
    shift
    is_wanted "$name" || return 0
    echo "== $name"
    rm -f "$name.hwm"
    timeout 120 "$highwater" record --aggregate -o "$name.hwm" -- "$@" >"$name.out" 2>"$name.err" || tail -3 "$name.err"
    cp "$name.hwm" "$out"
}

# serve NAME "WORK" COMMAND...: the work is done once the command serves, and then the command is told to end.
serve() {
    local name=$1 work=$2
    shift 2
    is_wanted "$name" || return 0
    echo "== $name"
    rm -f "$name.hwm"
    "$highwater" record --aggregate -o "$name.hwm" -- "$@" >"$name.out" 2>"$name.err" &
    local recorder=$!
    eval "$work" >"$name.work" 2>&1
    sleep 2
    kill -TERM $(pgrep -P $recorder) 2>/dev/null
    wait $recorder || tail -3 "$name.err"
    cp "$name.hwm" "$out"
}

# attach NAME "WORK" COMMAND...: the command serves before it is attached to.
attach() {
    local name=$1 work=$2 port=$3
    shift 3
    is_wanted "$name" || return 0
    echo "== $name"
    rm -f "$name.hwm"
    "$@" >"$name.out" 2>&1 &
    local program=$!
    until_open "$port"
    sleep 1
    # What runs as another user has a parent that only waits.
    local served=$program
    [ "$1" = runuser ] && served=$(pgrep -P $program)
    "$highwater" record --aggregate --ring 64MiB -o "$name.hwm" -p "$served" >"$name.told" 2>"$name.err" &
    local recorder=$!
    for _ in $(seq 100); do grep -q tracing "$name.err" "$name.told" && break; sleep 0.1; done
    eval "$work" >"$name.work" 2>&1
    sleep 2
    kill -INT $recorder
    wait $recorder || tail -3 "$name.err"
    kill -TERM "$served"
    wait $program
    cp "$name.hwm" "$out"
}
until_open() { for _ in $(seq 300); do (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null && return; sleep 0.1; done; }
fill() {
    python3 - "$1" <<'P'
import socket, sys
server = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
for i in range(20000):
    server.sendall(b"set order%d 0 0 500\r\n" % i + b"x" * 500 + b"\r\n")
    server.recv(100)
server.close()
P
}
get() { python3 -c 'import sys, urllib.request as u; [u.urlopen(sys.argv[1]).read() for _ in range(int(sys.argv[2]))]' "$1" "$2"; }

is_wanted git && { git init -q repository && cd repository && for i in $(seq 60); do
    seq $((i * 50)) >"file$((i % 7))"; git add . && git -c user.name=a -c user.email=a@example.org commit -qm "change $i"
done; cd ..; }
launch git git -C repository log --stat --patch
launch gdb gdb -batch -ex 'info functions main' /usr/bin/gdb
launch jq jq '[.[]|select(.id>10)|.name]|length' orders.json
launch sqlite sqlite3 :memory: '.mode csv' '.import orders.csv t' 'select c,sum(b) from t group by c limit 3;' 'create index i on t(b);'
launch ripgrep rg -c 99 words.txt
launch ruby ruby orders.rb
launch lua lua5.4 orders.lua
launch php php orders.php
launch node node orders.js
launch node-named node --perf-basic-prof --interpreted-frames-native-stack orders.js
launch numpy /usr/bin/python3 arrays.py
launch pandas /usr/bin/python3 frames.py
launch lxml /usr/bin/python3 tree.py
is_wanted java && javac Orders.java
launch java java -Xmx256m Orders
launch gcc g++ -O1 -c orders.cc -o orders.o
is_wanted imagemagick || is_wanted vips && /usr/bin/convert-im6.q16 -size 2000x1500 plasma:red-blue picture.png
launch imagemagick /usr/bin/convert-im6.q16 picture.png -resize 50% -blur 0x2 small.jpg
launch vips vips thumbnail picture.png thumbnail.jpg 400
serve redis 'until_open 16379; redis-benchmark -p 16379 -t set,lpush -n 50000 -r 20000 -d 200 -q' \
    redis-server --port 16379 --save '' --appendonly no
serve memcached 'until_open 21211; fill 21211' memcached -u nobody -l 127.0.0.1 -p 21211 -m 64
mkdir -p nginx
attach nginx 'get http://127.0.0.1:18080/orders.csv 20' 18080 nginx -c "$app/nginx.conf"
serve gunicorn 'until_open 18000; get http://127.0.0.1:18000/ 200' \
    /usr/bin/python3 /usr/bin/gunicorn -b 127.0.0.1:18000 -w 8 --preload web:application
if is_wanted postgres; then
    bin=$(echo /usr/lib/postgresql/*/bin)
    mkdir data && chown postgres data && chmod 755 "$app"
    runuser -u postgres -- "$bin/initdb" -D data >postgres.init 2>&1
    work="runuser -u postgres -- psql -h 127.0.0.1 -p 15432 -c 'create table t as select i, i::text||repeat(chr(120), 50) as s from generate_series(1,20000) i' -c 'create index on t(s)' -c 'select count(*) from (select * from t a join t b using(i) order by a.s) q' postgres"
    attach postgres "$work" 15432 runuser -u postgres -- "$bin/postgres" -D data -p 15432 -c unix_socket_directories=
fi
is_wanted stripped && g++ -O2 -s orders.cc -o stripped
launch stripped ./stripped
is_wanted cpp && g++ -O2 -g orders.cc -o cpp
launch cpp ./cpp
is_wanted rust && rustc -O orders.rs -o rust
launch rust ./rust
is_wanted plugins && gcc -O1 -g -shared -fPIC plugin.c -o plugin.so && gcc -O1 -g host.c -o host
launch plugins ./host
is_wanted tones && gcc -O1 -g tones.c -o tones -pthread
launch tones ./tones
is_wanted tiles && gcc -O1 -g tiles.c -o tiles -pthread
launch tiles ./tiles
