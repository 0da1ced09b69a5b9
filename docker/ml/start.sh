#!/bin/sh
# The volume of the databases hides the configuration that the image was built with.
set -eu
if [ ! -f /var/opt/mssql/mssql.conf ]; then
    mkdir -p /var/opt/mssql
    cp /opt/mssql/mssql.conf.ml /var/opt/mssql/mssql.conf
fi
chown -R mssql:mssql /var/opt/mssql
exec /usr/bin/supervisord -n -c /usr/local/etc/supervisord.conf
