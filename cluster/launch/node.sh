#!/usr/bin/env bash
# Set up an Ubuntu 24.04 host as a node for melray. aws.yaml and gcp.yaml run it on the head and on each
# worker, after copying packages.sh, constraints.txt and pyproject.toml to the same folder. It is idempotent.
#
#   node.sh head|worker [PACKAGE ...]      PACKAGE: cloud client library, for Ray's autoscaler on the head
set -euo pipefail

role=$1
shift
cd "$(dirname "$0")"

# System packages. A node that has just started may still be running its updates.
apt() { sudo DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=600 --quiet --yes "$@"; }
sudo cloud-init status --wait > /dev/null || true
# apt waits for dpkg's lock only, not for that of the package lists, which the system's own update holds.
attempts=0
until apt update; do
    attempts=$((attempts + 1))
    [ "$attempts" -lt 30 ] || exit 1
    sleep 10
done
apt install nfs-common python3-venv

# Python packages, for Ubuntu's Python: Ray requires the same patch release on all nodes, as images of one
# Ubuntu have.
venv=$HOME/melray-venv
[ -x "$venv/bin/python" ] || python3 -m venv "$venv"
kind=cpu
if nvidia-smi --list-gpus > /dev/null 2>&1; then
    kind=cuda
    # For --compile: Triton compiles C with Python's headers.
    apt install gcc libc6-dev python3-dev
fi
bash packages.sh "$kind" "$venv/bin/python"
# Without the constraints, which do not have all of them.
if [ $# -gt 0 ]; then "$venv/bin/python" -m pip install "$@"; fi

# For `ray exec`, `ray attach` and jobs: this Python, and the token at its default path, readable by its owner
# only.
if ! grep -q melray-venv ~/.bashrc; then
    echo 'export PATH=$HOME/melray-venv/bin:$PATH RAY_AUTH_MODE=token' >> ~/.bashrc
fi
chmod 700 ~/.ray
chmod 600 ~/.ray/auth_token

# Shared folder of all nodes. The file `share` holds its storage: `head`, or HOST:/PATH of an NFS server.
folder=/mnt/melray
share=$(cat share)
sudo mkdir -p "$folder"
if [ "$role" = head ] && [ "$share" = head ]; then
    apt install nfs-kernel-server
    sudo chown "$(id -u):$(id -g)" "$folder"
    # The package does not make this folder.
    sudo mkdir -p /etc/exports.d
    # NFS has no password: the firewalls of aws.yaml and gcp.yaml admit the cluster's nodes only. All writes are
    # made as the head's user, whose id may differ on a worker.
    options="rw,sync,no_subtree_check,all_squash,anonuid=$(id -u),anongid=$(id -g)"
    sudo tee /etc/exports.d/melray.exports > /dev/null \
        <<< "$folder 10.0.0.0/8($options) 172.16.0.0/12($options) 192.168.0.0/16($options)"
    sudo exportfs -ra
elif ! mountpoint --quiet "$folder"; then
    # Ray sets RAY_HEAD_IP on the workers.
    [ "$share" = head ] && share=$RAY_HEAD_IP:$folder
    sudo mount -t nfs4 "$share" "$folder"
    # A new file system belongs to root.
    if [ "$role" = head ]; then sudo chown "$(id -u):$(id -g)" "$folder"; fi
fi
