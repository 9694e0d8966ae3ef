# deb_inside.sh, run by deb.sh in a booted container where the package has just been installed for
# the first time. Results to stdout, one line each; a trace to stderr.
set -ux
export LC_ALL=C.UTF-8
passed=0
failed=0

ok() { # ok WHAT COMMAND…
    what=$1
    shift
    if "$@" >&2; then
        passed=$((passed + 1))
        echo "ok      $what"
    else
        failed=$((failed + 1))
        echo "FAILED  $what"
    fi
}
prop() { systemctl show -P "$1" moonjet; }
is() { [ "$(prop "$1")" = "$2" ]; }
not() { ! "$@"; }
soon() { # soon COMMAND…: true within 20 seconds
    tries=200
    until "$@"; do
        tries=$((tries - 1))
        [ "$tries" -gt 0 ] || return 1
        sleep 0.1
    done
}
status_has() { grep -q "^$1:[[:space:]]*$2$" "/proc/$(prop MainPID)/status"; }
run_by_nobody_else() {
    [ "$(stat -c %u "/proc/$(prop MainPID)")" != 0 ] &&
        [ "$(stat -c %u /var/lib/moonjet/)" = "$(stat -c %u "/proc/$(prop MainPID)")" ]
}
events() { timeout 20 moonjet tail --count 5 "ws://127.0.0.1:6008$1" >/dev/null; }
set_to() { # set_to NAME VALUE: the one such line of the settings
    sed -i "/^#*$1=/d" /etc/moonjet/moonjet.env
    echo "$1=$2" >>/etc/moonjet/moonjet.env
}
gone() { for path; do [ ! -e "$path" ] && [ ! -L "$path" ] || return 1; done; }
# A file of the service's, as it is found by a later start.
kept() { [ "$(cat /var/lib/moonjet/mark)" = kept ]; }

ok "installing does not enable" not systemctl -q is-enabled moonjet
ok "installing does not start" is ActiveState inactive
ok "systemd has nothing to say about the unit" \
    sh -c 'out=$(systemd-analyze verify --man=no /usr/lib/systemd/system/moonjet.service 2>&1); [ -z "$out" ]'

systemd-run -q --unit=network moonjet simulate --listen 127.0.0.1:2470
set_to MOONJET_SOURCE ws://127.0.0.1:2470
ok "starts without a script" systemctl start moonjet
ok "events arrive on main" events /subscribe
ok "no script, no argument" sh -c "tr '\0' ' ' </proc/$(prop MainPID)/cmdline | grep -qx '/usr/bin/moonjet run '"
ok "as a user of its own" run_by_nobody_else
ok "without a capability" status_has CapBnd 0000000000000000
ok "cannot gain privileges" status_has NoNewPrivs 1
ok "under a system call filter" status_has Seccomp 2

# A thread's nice value is the 17th field behind its name.
keeper_yields() { sed 's/.*) //' /proc/"$(prop MainPID)"/task/*/stat | cut -d' ' -f17 | grep -qx 5; }
ok "whose keeper may yield" keeper_yields

cat >/etc/moonjet/scripts/moon.lua <<'END'
local jet = require "moonjet"
local seen = 0
jet.from { collection = "app.bsky.feed.post", op = "create" }
  :where(function(ev) for i = 1, 1000 do seen = seen + i end return #ev.text > 0 end)
  :to(jet.stream "moon")
END
set_to MOONJET_SCRIPTS moon.lua
ok "restarts with a script, named without its directory" systemctl restart moonjet
ok "events arrive from the script" events /stream/moon/subscribe
# Executable memory without a file behind it is the JIT's.
machine_code() { grep -q ' r[w-]xp 00000000 00:00 0 *$' "/proc/$(prop MainPID)/maps"; }
ok "its JIT may compile under the sandbox" soon machine_code

kill -KILL "$(prop MainPID)"
ok "killed, it is started again" soon is NRestarts 1
ok "and serves" events /stream/moon/subscribe
ok "root reads the journal of the running service, and finds it whole" \
    moonjet journal verify /var/lib/moonjet

set_to MOONJET_CURSOR 999999999999
systemctl restart moonjet
ok "a cursor from the future fails the service" soon is ActiveState failed
ok "with status 3" is ExecMainStatus 3
ok "and is not tried again" is NRestarts 0
# The next start must not know of it.
sed -i /MOONJET_CURSOR/d /etc/moonjet/moonjet.env
set_to MOONJET_LOG_LEVEL loud
systemctl restart moonjet
ok "a wrong setting fails the service, status 2, not tried again" \
    soon sh -c '[ "$(systemctl show -p ActiveState,ExecMainStatus,NRestarts --value moonjet | sort | tr "\n" " ")" = "0 2 failed " ]'
set_to MOONJET_LOG_LEVEL info

ok "enables" systemctl enable moonjet
ok "starts again" systemctl start moonjet
echo kept >/var/lib/moonjet/mark
before=$(prop MainPID)
ok "an upgrade" dpkg -i --force-confold /root/moonjet.deb
ok "restarts what runs" sh -c "systemctl -q is-active moonjet && [ $(prop MainPID) != $before ]"
ok "and leaves the settings" grep -q ^MOONJET_SCRIPTS=moon.lua /etc/moonjet/moonjet.env
ok "and serves after it" events /stream/moon/subscribe

ok "removing" dpkg -r moonjet
ok "stops the service" soon not pgrep -f /usr/bin/moonjet
ok "keeps settings and data" test -f /etc/moonjet/moonjet.env -a -f /var/lib/moonjet/mark
ok "installing again" dpkg -i --force-confold /root/moonjet.deb
ok "finds it enabled, as it was" systemctl -q is-enabled moonjet
ok "starts with the data it had" systemctl start moonjet
ok "the data is there" kept

ok "purging" dpkg -P moonjet
ok "takes settings and data" gone /etc/moonjet/moonjet.env /var/lib/moonjet /var/lib/private/moonjet
ok "but not the operator's script" test -f /etc/moonjet/scripts/moon.lua
ok "leaves no trace in systemd" sh -c '! find /etc/systemd /var/lib/systemd -name "*moonjet*" | grep .'
[ "$failed" = 0 ] || journalctl --no-pager -u moonjet -n 40 >&2
echo "$passed passed, $failed failed"
