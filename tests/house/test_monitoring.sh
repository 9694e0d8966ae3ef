#!/bin/sh
# Every metric that the dashboard and the alert rules name is made somewhere in core/, every alert has
# its place in docs/operations.md, every setting that the package shows is an option, and both files
# are well formed as far as the tools for it are here.
set -eu
cd "$(dirname "$0")/../.."
dashboard=docs/monitoring/grafana-dashboard.json
alerts=docs/monitoring/alerts.yml
status=0
fail() { echo "$*" >&2; status=1; }

count=0
for name in $(grep -ohE '\b(moonjet|jetstream|consumer)_[a-z0-9_]+' $dashboard $alerts | sort -u); do
    count=$((count + 1))
    # A histogram is made under the name that its series extend.
    grep -rqE "\"${name%_bucket}\"" core || fail "no metric is called $name"
done
[ "$count" -ge 20 ] || fail "only $count metrics were found in $dashboard and $alerts"

for alert in $(sed -n 's/^ *- alert: *//p' $alerts); do
    grep -q "\`$alert\`" docs/operations.md || fail "docs/operations.md does not say what $alert means"
done

for name in $(sed -n 's/^#\{0,1\}MOONJET_\([A-Z_]*\)=.*/\1/p' cmake/packaging/moonjet.env); do
    option=$(echo "$name" | tr A-Z_ a-z-)
    # MOONJET_SCRIPTS is the unit's own.
    [ "$name" = SCRIPTS ] || grep -qE "^    \{\"$option\", MJ_OPT" core/cli/run_options.c ||
        fail "moonjet.env shows MOONJET_$name, but run has no --$option"
done

if command -v promtool >/dev/null; then
    promtool check rules $alerts >/dev/null || fail "$alerts: see above"
    promtool test rules tests/house/alerts_test.yml >/dev/null || fail "$alerts: see above"
fi
if command -v python3 >/dev/null; then
    python3 -m json.tool $dashboard >/dev/null || fail "$dashboard is not JSON"
fi
exit $status
