#!/bin/sh
# Makes what docker-compose.yml needs to begin with, in a folder: a key that signs tokens and the one that the broker
# verifies them with, a token that may read metrics, one that may do everything for whoever tries it out, and a
# certificate that nobody vouches for. What is there already stays as it is, so this can run before every start.
set -eu
umask 077
folder=${1:?the folder to make it in}
cd "$folder"

if [ ! -e perennial.pub ]; then
    rm -f perennial.key
    perennial keys generate perennial.key >perennial.pub.new
    mv perennial.pub.new perennial.pub
fi
if [ ! -e metrics-token ]; then
    perennial token --key perennial.key --subject prometheus --admin --ttl 365d >metrics-token.new
    mv metrics-token.new metrics-token
fi
if [ ! -e token ]; then
    perennial token --key perennial.key --subject try-it-out --publish '**' --subscribe '**' --admin --ttl 30d >token.new
    mv token.new token
fi
if [ ! -e tls/certificate.pem ]; then
    mkdir -p tls
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 365 \
        -subj /CN=localhost -addext subjectAltName=DNS:localhost,IP:127.0.0.1 \
        -keyout tls/key.pem -out tls/certificate.new 2>/dev/null
    mv tls/certificate.new tls/certificate.pem
fi
# Prometheus has another user. Private keys and the token that may do everything stay where they are.
chmod 755 . tls
chmod 644 perennial.pub metrics-token tls/certificate.pem
