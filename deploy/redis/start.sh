#!/bin/sh
# Redis with the passwords that the secrets hold, in place of the development ones in users.conf. Only their hashes are
# written, so that a password may contain anything.
set -eu
cd /etc/redis-holdfast
hash() { printf %s "$(cat "$1")" | sha256sum | cut -d ' ' -f 1; }
umask 077
cat redis.conf >/tmp/redis.conf
sed -e "s/>development-payment/#$(hash /run/secrets/payment-redis)/" \
    -e "s/>development-drills/#$(hash /run/secrets/redis-drills)/" \
    -e "s/>development-admin/#$(hash /run/secrets/redis-admin)/" users.conf >>/tmp/redis.conf
# The image's entrypoint gives up root.
[ "$(id -u)" != 0 ] || chown redis /tmp/redis.conf
exec docker-entrypoint.sh redis-server /tmp/redis.conf
