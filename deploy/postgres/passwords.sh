#!/bin/sh
# Gives each role the password that its secret holds, in place of the development one in roles.sql. Runs once, when the
# database is made. To change a password later: alter role, then the secret, then restart what uses it.
set -eu
for role in order payment inventory notification orchestrator card-processor auditor postgres; do
    case $role in
        order | payment | inventory | notification | orchestrator) name=${role}_service file=/run/secrets/${role}-database ;;
        card-processor) name=card_processor file=/run/secrets/card-processor-database ;;
        auditor | postgres) name=$role file=/run/secrets/$role ;;
    esac
    password=$(cat "$file")
    # `:'password'` is psql's own quoting: whatever the file holds stays one literal.
    psql --quiet --set ON_ERROR_STOP=1 --set "name=$name" --set "password=$password" --dbname postgres <<'SQL'
alter role :"name" password :'password';
SQL
done
