#!/usr/bin/env bash
# Makes a fresh Ubuntu 24.04 machine a node for melray. aws.yaml and gcp.yaml run it on the head and on each worker, after they
# have put packages.sh, constraints.txt and pyproject.toml beside it. Run again, it changes nothing that is right already.
#
#   node.sh head|worker [PACKAGE ...]      PACKAGE: what Ray needs to talk to the cloud, on the head
set -euo pipefail

role=$1
shift
cd "$(dirname "$0")"

# Packages of the system. A machine that has just started may still be busy with its own updates.
apt() { sudo DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=600 --quiet --yes "$@"; }
sudo cloud-init status --wait > /dev/null || true
apt update
apt install nfs-common python3-venv

# Packages of Python. Ubuntu's own Python, since Ray wants the same patch release on all nodes: images of one Ubuntu have that.
venv=$HOME/melray-venv
[ -x "$venv/bin/python" ] || python3 -m venv "$venv"
kind=cpu
if nvidia-smi --list-gpus > /dev/null 2>&1; then kind=cuda; fi
bash packages.sh "$kind" "$venv/bin/python"
# Without the constraints: boto3 can't be had with their python-dateutil, and takes an older one.
if [ $# -gt 0 ]; then "$venv/bin/python" -m pip install "$@"; fi

# What `ray exec`, `ray attach` and jobs find: this Python, and the token in its default place, closed to others.
if ! grep -q melray-venv ~/.bashrc; then
    echo 'export PATH=$HOME/melray-venv/bin:$PATH RAY_AUTH_MODE=token' >> ~/.bashrc
fi
chmod 700 ~/.ray
chmod 600 ~/.ray/auth_token

# The folder that all nodes see. `share` says where it lies: on this head, or at an NFS server's HOST:/PATH.
folder=/mnt/melray
share=$(cat share)
sudo mkdir -p "$folder"
if [ "$role" = head ] && [ "$share" = head ]; then
    apt install nfs-kernel-server
    sudo chown "$(id -u):$(id -g)" "$folder"
    # To private addresses only; the cloud's firewall lets none but the cluster's machines come near. Whoever writes there
    # becomes the head's user, whose number may be another one on a worker.
    options="rw,sync,no_subtree_check,all_squash,anonuid=$(id -u),anongid=$(id -g)"
    echo "$folder 10.0.0.0/8($options) 172.16.0.0/12($options) 192.168.0.0/16($options)" |
        sudo tee /etc/exports.d/melray.exports > /dev/null
    sudo exportfs -ra
elif ! mountpoint --quiet "$folder"; then
    # Ray tells the workers where the head is.
    [ "$share" = head ] && share=$RAY_HEAD_IP:$folder
    sudo mount -t nfs4 "$share" "$folder"
    # A new file system belongs to root.
    if [ "$role" = head ]; then sudo chown "$(id -u):$(id -g)" "$folder"; fi
fi
