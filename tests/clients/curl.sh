#!/usr/bin/env bash
# curl -N in a loop, as an operator would write it: whole blocks only, and the last whole block's id is sent again.
# Usage: curl.sh URL      (URL must ask for envelope=true, so that every event's data is one line of JSON)
# Prints the envelope of each event that is not the broker's own, until it is killed.
set -euo pipefail

url=$1
last_id=
header=()

for ((attempt = 0; attempt < 1000; attempt++)); do
    if [[ -n $last_id ]]; then header=(-H "Last-Event-ID: $last_id"); fi
    type='' data='' id=''
    while IFS= read -r line; do
        case $line in
            'event: '*) type=${line#event: } ;;
            'data: '*) data=${line#data: } ;;
            'id: '*) id=${line#id: } ;;
            '')
                if [[ -n $id ]]; then last_id=$id; fi
                if [[ -n $data && $type != '$'* ]]; then printf '%s\n' "$data"; fi
                type='' data='' id=''
                ;;
        esac
    done < <(exec curl -sS -N --noproxy '*' -H 'Accept: text/event-stream' ${header[@]+"${header[@]}"} "$url")
    sleep 0.2
done
echo "reconnected too often" >&2
exit 1
