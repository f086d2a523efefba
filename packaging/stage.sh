#!/bin/sh
# Puts everything that is installed below a prefix into FOLDER/PREFIX:
# packaging/stage.sh FOLDER PREFIX BINARY [RUNS [NOTICES]]
# RUNS is a build of the same sources that runs on this machine, where BINARY is for another one: it prints the manual
# page and the completions. NOTICES has files about what BINARY is linked with.
set -eu

folder=$(realpath --canonicalize-missing "$1") prefix=$2 binary=$(realpath "$3") runs=$(realpath "${4:-$3}")
notices=${5:+$(realpath "$5")}
cd "$(dirname "$0")/.."
umask 022
tree=$folder$prefix

file() { # MODE SOURCE PATH: a file below the prefix
    mkdir -p "$(dirname "$tree/$3")"
    cp "$2" "$tree/$3"
    chmod "$1" "$tree/$3"
}

print() { # PATH ARGUMENT...: what the command prints, as a file below the prefix
    path=$tree/$1
    shift
    mkdir -p "$(dirname "$path")"
    "$runs" "$@" >"$path"
    chmod 644 "$path"
}

file 755 "$binary" bin/ordercast
print share/man/man1/ordercast.1 man
print share/bash-completion/completions/ordercast completions bash
print share/zsh/site-functions/_ordercast completions zsh
print share/fish/vendor_completions.d/ordercast.fish completions fish

for unit in packaging/*.service packaging/*.socket packaging/*.timer; do
    [ -f "$unit" ] || continue
    path=lib/systemd/system/${unit#packaging/}
    mkdir -p "$tree/lib/systemd/system"
    sed "s|/usr/bin/ordercast|$prefix/bin/ordercast|g" "$unit" >"$tree/$path"
    chmod 644 "$tree/$path"
done
file 644 packaging/sysusers.conf lib/sysusers.d/ordercast.conf

doc=share/doc/ordercast
for page in README.md CHANGELOG.md SECURITY.md LICENSE-APACHE LICENSE-MIT docs/*.md docs/nginx.conf docs/Caddyfile \
    docs/haproxy.cfg; do
    file 644 "$page" "$doc/$page"
done
file 644 packaging/default "$doc/ordercast.default"
for monitoring in packaging/*.json packaging/*.yml; do
    [ ! -f "$monitoring" ] || file 644 "$monitoring" "$doc/${monitoring##*/}"
done
[ -z "$notices" ] || for notice in "$notices"/*; do
    file 644 "$notice" "$doc/${notice##*/}"
done

# What `make uninstall` removes.
touch "$tree/$doc/FILES"
files=$(cd "$tree" && find . -type f | sed 's|^\./||' | LC_ALL=C sort)
echo "$files" >"$tree/$doc/FILES"
chmod 644 "$tree/$doc/FILES"
